//! `genarm train` as a process: killed without warning, interrupted by Ctrl-C, and fed bad input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Thirty pairs, written into `folder`.
fn pairs(folder: &Path) -> PathBuf {
    let path = folder.join("pairs.jsonl");
    let line = |i: usize| {
        let (name, number) = (["Tom", "Lily", "A bird"][i % 3], "very ".repeat(i));
        format!("{{\"prompt\":\"{name} was\",\"chosen\":\" {number}happy.\",\"rejected\":\" {number}sad.\"}}\n")
    };
    fs::write(&path, (0..30).map(line).collect::<String>()).expect("the pairs");
    path
}

/// A run of sixty steps, with a checkpoint after each second one.
fn train(folder: &Path, out: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/small.gguf");
    command.args(["train", "--batch", "4", "--epochs", "8", "--checkpoint-every", "2", "--lora-dropout", "0.1"]);
    command.args(["--threads", "2", "--seed", "3", "--resume", "--backbone"]).arg(backbone);
    command.arg("--pairs").arg(pairs(folder)).arg("--out").arg(folder.join(out));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("genarm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Starts a run and returns it as soon as a checkpoint is on disk.
fn started(folder: &Path, out: &str) -> Child {
    let mut child = train(folder, out).spawn().expect("genarm runs");
    let checkpoint = folder.join(format!("{out}.checkpoint"));
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(child.try_wait().expect("a status").is_none(), "ended before its first checkpoint");
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn a_run_killed_without_warning_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    finish(&mut train(folder.path(), "whole.gguf"));
    let mut child = started(folder.path(), "killed.gguf");
    child.kill().expect("SIGKILL");
    child.wait().expect("a status");
    assert!(!folder.path().join("killed.gguf").exists(), "the run must have been killed before its end");
    finish(&mut train(folder.path(), "killed.gguf"));
    let read = |name: &str| fs::read(folder.path().join(name)).expect(name);
    assert!(read("whole.gguf") == read("killed.gguf"));
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let child = started(folder.path(), "arm.gguf");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(interrupt.success());
    let output = child.wait_with_output().expect("a status");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("continue with --resume"), "{message}");
    assert!(folder.path().join("arm.gguf.checkpoint").exists());
}

#[test]
fn a_malformed_line_is_reported_with_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = pairs(folder.path());
    let good = fs::read_to_string(&path).expect("the pairs");
    let bad = folder.path().join("bad.jsonl");
    fs::write(&bad, format!("{good}{{\"prompt\": oops\n")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/small.gguf");
    command.arg("train").arg("--backbone").arg(backbone).arg("--pairs").arg(&bad);
    let output = command.arg("--out").arg(folder.path().join("arm.gguf")).output().expect("genarm runs");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("bad.jsonl:31: not JSON"), "{message}");
    assert!(!folder.path().join("arm.gguf").exists());
}
