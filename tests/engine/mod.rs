//! llama.cpp behind the one primitive.

mod adapters;
mod broken;
mod context;
mod hybrid;
mod parm;
mod response;
mod saved;
mod share;
mod tokenize;
mod words;
