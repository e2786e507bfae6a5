//! llama.cpp behind the one primitive.

mod adapters;
mod broken;
mod context;
mod share;
mod tokenize;
