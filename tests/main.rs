//! All integration tests, in one binary: llama.cpp is linked once.

mod cli;
mod config;
mod engine;
mod eval;
mod gguf;
mod sampling;
mod support;
mod train;
