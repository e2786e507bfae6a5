//! The binary, as a user runs it.

mod bad_input;
mod calibrate;
mod chat;
mod context;
mod examples;
mod flags;
mod generate;
mod help;
mod llama_commands;
#[cfg(target_os = "linux")]
pub(crate) mod memory;
mod quantize;
mod share;
mod speculate;
mod weights;

use crate::support::binary::{fed, genarm, json, model, run, stdout};

/// The demo configuration of the repository.
fn demo() -> String {
    model("demo.yaml")
}
