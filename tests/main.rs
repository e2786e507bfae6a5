//! All integration tests, in one binary: llama.cpp is linked once.

mod cli;
mod config;
mod engine;
mod eval;
mod gguf;
mod hardware;
mod sampling;
mod speculation;
mod support;
mod train;
