//! All integration tests, in one binary: llama.cpp is linked once.

mod capi;
mod cases;
mod chat;
mod cli;
mod config;
mod documents;
mod engine;
mod eval;
mod exact_translation;
mod families;
mod gguf;
mod hardware;
#[cfg(target_os = "linux")]
mod hosts;
mod packaging;
mod parm;
mod peers;
mod real;
mod sampling;
mod saved;
mod server;
mod speculation;
mod stores;
mod support;
mod train;
mod translate;
