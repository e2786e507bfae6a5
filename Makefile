# Every target does its own set-up. One cargo profile (release) throughout, so that llama.cpp is compiled once.

CARGO ?= cargo
# What `make bench` measures.
BENCH ?= --synthetic base=1.2B,arm=180M
# Where `make install` installs.
export PREFIX ?= /usr/local
export DESTDIR ?=
# What `make models` trains on.
CORPUS ?=

# Where rustup puts cargo, for shells that do not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-real lint features test test-real snapshots test-tools test-peers test-hosts test-install test-package bench-hosts fuzz \
	bench install dist dist-native test-dist models models-report report clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Find what is missing to build, and install it
	@scripts/setup

build: ## Build the genarm binary; says what is missing, and installs nothing
	@scripts/setup --check
	$(CARGO) build --release

demo: setup build ## Continue one prompt with the base alone and guided, side by side
	@$(CARGO) build --quiet --release --example demo
	@scripts/demo

demo-real: setup build ## Answer one question with SmolLM2 alone, under personas and under ARMs (fetches 98 MB)
	@scripts/demo-real

lint: setup ## Check format, workflows, clippy and documentation; any warning is an error
	$(CARGO) fmt --check
	@scripts/lint-workflows
	$(CARGO) clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps
	@scripts/public-api

features: setup ## Check that the library compiles with no cargo feature, with each alone, and with all
	@scripts/features

# Tests run side by side: threads that wait for each other must not spin on the cores that others need.
test: ## Run all tests, those in the documentation too
	@scripts/setup browser
	@scripts/test-tools
	OMP_WAIT_POLICY=passive GENARM_WITHOUT="$${GENARM_WITHOUT-$$(scripts/test-tools --lacking)}" $(CARGO) test --release

test-real: ## Run the tests that need real models (98 MB; with Gemma 3 270M where scripts/real-models --gemma has fetched it)
	@scripts/setup
	@scripts/real-models
	OMP_WAIT_POLICY=passive $(CARGO) test --release --test main -- --ignored --test-threads 1 --nocapture real:: $$(scripts/real-models --lacking)

snapshots: ## Record anew what tests compare with: the texts of tests/cases, the help texts, the list of flags, docs/models.md
	GENARM_WRITE_SNAPSHOTS=1 $(CARGO) test --release --test main -- cases::every_case_has cli::help families::table
	GENARM_WRITE_SNAPSHOTS=1 $(CARGO) test --release --lib -- the_list_in_the_documents

test-peers: build ## Run the tests of llama.cpp's server, unmodified, against genarm serve
	@scripts/test-peers

test-hosts: setup ## Run unmodified llama.cpp tools and llama-cpp-python under genarm (builds them once)
	@scripts/test-hosts

bench-hosts: setup ## Measure a guided llama-server against the serial ideal
	@scripts/test-hosts --speed

fuzz: setup ## Five minutes of broken YAML through the C ABI, ten of random grammars and schemas (GENARM_FUZZ_SECONDS=N: each)
	GENARM_FUZZ_SECONDS=$${GENARM_FUZZ_SECONDS:-300} $(CARGO) test --release --test main -- --nocapture no_text_makes
	GENARM_FUZZ_SECONDS=$${GENARM_FUZZ_SECONDS:-600} $(CARGO) test --release --test main -- --nocapture no_grammar_schema

test-tools: ## Install a browser, nginx and the clients that the tests of the server speak through
	@scripts/test-tools

bench: build ## Measure guided decoding against the base alone (BENCH="...")
	target/release/genarm bench $(BENCH)

install: build ## Install binary, libraries and header (PREFIX=/usr/local, DESTDIR=)
	@scripts/install

test-install: build ## Install into an empty folder, and build C programs against it
	@scripts/test-install

dist: setup ## Make a release: an archive for all x86-64 processors, and a Python wheel (80 processor minutes)
	@scripts/dist

dist-native: build ## The same for the processor of this machine, from what is built
	@scripts/dist --native

test-dist: ## Try the archive and the wheel on clean systems (root, for chroot)
	@scripts/test-dist

test-package: build ## Compile the program from the crate's package
	@scripts/test-package

models: build ## Train the demo models anew (CORPUS=FILE)
	scripts/make-models $(CORPUS)

models-report: build ## Measure the demo models, and write their report
	scripts/models-report

report: build ## Draw and tabulate what guidance does to the demo models (docs/report.md)
	scripts/report

clean: ## Remove everything that was built
	$(CARGO) clean
