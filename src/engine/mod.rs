//! llama.cpp behind [`Expert`](crate::Expert).

pub mod gguf;
pub mod quantize;
