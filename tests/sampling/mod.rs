//! The law and the hook, in llama.cpp's own sampler chain.

mod golden;
mod hook;
mod prefix;
