//! llama.cpp behind [`Expert`](crate::Expert).

mod contract;
pub mod dequantize;
pub mod gguf;
pub mod llama;
pub mod memory;
pub mod quantize;
mod rows;
mod sequence;
pub mod share;
mod stack;

pub use rows::Progress;
pub use sequence::Sequence;
pub use stack::{Scaled, StackError, stack};
