//! llama.cpp behind [`Expert`](crate::Expert).

mod contract;
pub mod gguf;
pub mod llama;
pub mod memory;
pub mod quantize;
mod sequence;

pub use sequence::{Progress, Sequence};
