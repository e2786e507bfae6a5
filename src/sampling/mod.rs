//! GenARM inside llama.cpp's sampler chains.

pub mod abi;
