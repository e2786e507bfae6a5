//! The sampler chain: its parameters, as llama.cpp names and orders them.

pub mod params;
