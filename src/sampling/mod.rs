//! GenARM inside llama.cpp's sampler chains, and the parameters of those.

pub mod abi;
pub mod params;
