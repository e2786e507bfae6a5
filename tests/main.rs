//! All integration tests, in one binary: llama.cpp is linked once.

mod cli;
mod config;
mod engine;
mod gguf;
mod sampling;
mod server;
mod support;
mod train;
