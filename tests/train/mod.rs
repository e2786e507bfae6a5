//! `genarm train` as a process: killed without warning, interrupted by Ctrl-C, and fed bad input.

mod preview;

use genarm::engine::gguf::GgufFile;
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
fn ctrl_c_leaves_a_checkpoint_and_an_adapter_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let child = started(folder.path(), "arm.gguf");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(interrupt.success());
    let output = child.wait_with_output().expect("a status");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("continue with --resume"), "{message}");
    assert!(folder.path().join("arm.gguf.checkpoint").exists());
    let adapter = GgufFile::open_adapter(folder.path().join("arm.gguf")).expect("what was learned so far");
    assert!(adapter.u64("genarm.steps").is_some_and(|n| n >= 2));
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

/// Runs `genarm train` on the small model with these arguments, and returns what it says on stderr; it must fail.
fn refusal(arguments: &[&str]) -> String {
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/small.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    let output = command.arg("train").arg("--backbone").arg(backbone).args(arguments).output().expect("genarm runs");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} must be refused");
    assert!(!message.contains("panicked") && message.trim().lines().count() == 1, "{arguments:?}: {message}");
    message
}

#[test]
fn a_recipe_is_never_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("backbone: {}/models/small.gguf\npairs: pairs.jsonl\n", env!("CARGO_MANIFEST_DIR"));
    let recipe = folder.path().join("recipe.yaml");
    fs::write(&recipe, format!("\u{feff}{text}")).expect("a file");
    pairs(folder.path());
    let name = recipe.to_str().expect("a name");
    for out in [name, &format!("{}/./recipe.yaml", folder.path().display())] {
        let message = refusal(&["--recipe", name, "--out", out]);
        assert!(message.contains("over the recipe"), "{message}");
    }
    assert!(fs::read_to_string(&recipe).expect("the recipe").ends_with(&text));
}

#[test]
fn values_that_make_no_sense_are_refused_in_one_line_that_names_the_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let pairs = pairs(folder.path());
    let out = folder.path().join("arm.gguf");
    let files = ["--pairs", pairs.to_str().expect("a name"), "--out", out.to_str().expect("a name")];
    for (flag, values) in [
        ("--lr", &["nan", "inf", "0", "-1"][..]),
        ("--beta", &["nan", "0", "1e300"]),
        ("--gamma", &["nan", "-inf"]),
        ("--label-smoothing", &["nan", "0.5", "1"]),
        ("--weight-decay", &["nan", "-1"]),
        ("--max-grad-norm", &["nan", "-1"]),
        ("--lora-alpha", &["nan", "0", "1e39"]),
        ("--lora-dropout", &["nan", "1"]),
        ("--held-out", &["nan", "1", "-0.1"]),
        ("--lora-rank", &["0", "1000000000000"]),
        ("--batch", &["0"]),
        ("--micro-batch", &["0"]),
        ("--epochs", &["0"]),
        ("--max-steps", &["0"]),
        ("--max-prompt", &["0"]),
        ("--max-len", &["0", "1"]),
        ("--threads", &["0", "1000000"]),
        ("--eval-every", &["0"]),
        ("--checkpoint-every", &["0"]),
        ("--lora-targets", &["", "lm_head", "q,,v"]),
    ] {
        for value in values {
            let argument = format!("{flag}={value}");
            let message = refusal(&[&files[..], &[&argument]].concat());
            assert!(message.contains(flag), "{argument}: {message}");
        }
    }
    assert!(!out.exists());
}

#[test]
fn the_largest_values_train_like_large_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let most = usize::MAX.to_string();
    let mut command = train(folder.path(), "arm.gguf");
    for flag in ["--micro-batch", "--eval-every", "--max-prompt", "--max-len"] {
        command.args([flag, &most]);
    }
    finish(command.args(["--max-steps", "2", "--warmup", &most]));
    assert!(folder.path().join("arm.gguf").exists());
}
