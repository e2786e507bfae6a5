//! llama.cpp behind [`Expert`](crate::Expert).

pub mod gguf;
pub mod llama;
mod sequence;

pub use sequence::{Progress, Sequence};
mod contract;
pub mod memory;
