//! Models by name: where other programs keep models on this machine, found without the network.

pub mod environment;
pub mod error;
pub mod ollama;
