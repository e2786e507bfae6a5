//! The binary, as a user runs it.

mod bad_input;
mod generate;
#[cfg(target_os = "linux")]
pub(crate) mod memory;
mod share;
mod speculate;
mod weights;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The demo configuration of the repository.
fn demo() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo.yaml").display().to_string()
}

fn model(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).display().to_string()
}

fn genarm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("GENARM_LOG");
    // What is measured under the load of other tests is worth nothing to the user's own runs.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn run(args: &[&str]) -> Output {
    genarm(args).output().expect("the binary runs")
}

/// Standard output of a command that must succeed.
fn stdout(args: &[&str]) -> String {
    let output = run(args);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {talk}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(args)).expect("JSON")
}
