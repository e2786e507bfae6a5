//! An ARM of one vocabulary guides a base of another: through the program. What every door must do alike is in
//! `tests/cases`.

mod asking;
mod bounds;
mod doors;
mod inspecting;
mod lexicons;

use std::path::Path;

use crate::support::binary;

const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

/// A base with a byte-level vocabulary of 2048 tokens.
fn base() -> String {
    binary::model("base.gguf")
}

/// An ARM with a sentencepiece vocabulary of 512.
fn arm(name: &str) -> String {
    let file = format!("tests/models/arm-{name}.gguf");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file).display().to_string()
}

/// `kind=FILE:WEIGHT`, as `--arm` takes it.
fn kind(weight: &str) -> String {
    format!("kind={}:{weight}", arm("cheerful"))
}

/// The arguments of a short greedy text, with these between.
fn greedy<'a>(base: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--base", base], more, &["--temp", "0", "-n", "24", "-t", "1", PROMPT]].concat()
}
