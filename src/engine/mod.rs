//! llama.cpp behind safe functions and types.

pub mod quantize;
