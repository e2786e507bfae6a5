//! Scores, sweeps, comparisons and their pictures, as a user gets them.

mod browser;
mod compare;
mod score;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file of the demo models.
fn demo(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).display().to_string()
}

fn genarm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("GENARM_LOG").env_remove("OPENAI_API_KEY");
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

/// The error line and exit code of a command that must fail.
fn failure(args: &[&str]) -> (String, Option<i32>) {
    let output = run(args);
    assert!(!output.status.success(), "{args:?}");
    let talk = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    (talk, output.status.code())
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
