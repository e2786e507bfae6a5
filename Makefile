# Every target does its own set-up. One cargo profile (release) throughout, so that llama.cpp is compiled once.

CARGO ?= cargo
# What `make bench` measures.
BENCH ?= --synthetic base=1.2B,arm=180M
# What `make models` trains on.
CORPUS ?=

# Where rustup puts cargo, for shells that have not been told yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup build demo lint test test-tools bench models models-report clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Find what is missing to build, and install it
	@scripts/setup

build: setup ## Build the genarm binary
	$(CARGO) build --release

demo: build ## Continue one prompt with the base alone, then guided
	@scripts/demo

lint: setup ## Check format, clippy and documentation; any warning is an error
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps

test: setup test-tools ## Run all tests, those in the documentation too
	GENARM_TEST_TOOLS=1 $(CARGO) test --release

test-tools: ## Install a browser and OpenAI's clients for the tests of the server
	@scripts/test-tools

bench: build ## Measure guided decoding against the base alone (BENCH="...")
	target/release/genarm bench $(BENCH)

models: build ## Train the demo models anew (CORPUS=FILE)
	scripts/make-models $(CORPUS)

models-report: build ## Measure the demo models, and write their report
	scripts/models-report

clean: ## Remove everything that was built
	$(CARGO) clean
