//! The law and the hook, in llama.cpp's own sampler chain.

mod dry;
mod fuzz;
mod golden;
mod hook;
mod prefix;
