//! The binary, as a user runs it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A file of the repository's models.
pub fn model(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).display().to_string()
}

pub fn genarm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("GENARM_LOG").env_remove("OPENAI_API_KEY");
    // What is measured under the load of other tests is worth nothing to the user's own runs.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    // Variables of the tests' own environment must not set flags.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("LLAMA_") || matches!(&*text, "GENARM_CONFIG" | "GENARM_PROFILE") {
            command.env_remove(&name);
        }
    }
    command
}

pub fn run(args: &[&str]) -> Output {
    genarm(args).output().expect("the binary runs")
}

/// Runs a command with a text on its standard input.
pub fn fed(command: &mut Command, input: impl AsRef<[u8]>) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program runs");
    // A command that refuses its flags may be gone before the text comes.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_ref());
    child.wait_with_output().expect("output")
}

/// Standard output of a command that must succeed.
pub fn stdout(args: &[&str]) -> String {
    let output = run(args);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {talk}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(args)).expect("JSON")
}

/// The error line and exit code of a command that must fail.
pub fn failure(args: &[&str]) -> (String, Option<i32>) {
    let output = run(args);
    assert!(!output.status.success(), "{args:?}");
    (String::from_utf8_lossy(&output.stderr).trim().to_owned(), output.status.code())
}

/// Resident memory at its highest, in bytes, of a chat that has begun to answer this line.
#[cfg(target_os = "linux")]
pub fn resident_in_chat(args: &[&str], line: &str) -> u64 {
    let mut child = genarm(&[&["chat"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.as_mut().expect("a pipe").write_all(format!("{line}\n").as_bytes()).expect("written");
    let mut one = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut one).expect("an answer");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a living process");
    drop(child.stdin.take());
    child.wait_with_output().expect("the end");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}
