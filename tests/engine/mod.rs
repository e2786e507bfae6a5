//! llama.cpp behind the one primitive.

mod share;
mod tokenize;
