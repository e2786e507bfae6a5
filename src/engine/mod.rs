//! llama.cpp behind [`Expert`](crate::Expert).

mod contract;
#[cfg(feature = "train")]
pub mod dequantize;
pub mod fit;
pub mod gguf;
pub mod kernels;
pub mod llama;
pub mod memory;
mod origin;
mod parm;
#[cfg(feature = "train")]
pub mod quantize;
pub mod rollback;
mod sequence;
pub mod share;
mod shared_context;
mod stack;
pub mod threads;
mod words;

pub use sequence::Sequence;
pub use shared_context::Progress;
pub use stack::{ADAPT, Part, Scaled, StackError, acts_on_responses_only, stack};
pub use words::VocabWords;
