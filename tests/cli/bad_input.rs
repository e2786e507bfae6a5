//! Whatever the user gives: one clear line that says what to do, the right exit code, no panic and no abort.

use std::fs;
use std::process::Stdio;

use super::{demo, genarm, model, run, support};

/// Asserts that a command fails with `code` and one line that has all of `words`.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {talk}");
    for word in words {
        assert!(talk.contains(word), "{args:?}: no {word:?} in {talk}");
    }
    assert!(!talk.contains("panicked") && !talk.contains("terminate called"), "{args:?}: {talk}");
    // A cause is named once.
    let parts: Vec<_> = talk.trim_end().split(": ").collect();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{args:?}: {talk}");
    if code == 1 {
        assert_eq!(talk.trim_end().lines().count(), 1, "{args:?}: {talk}");
        assert!(talk.starts_with("error: "), "{args:?}: {talk}");
    }
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = fs::read(model("base.gguf")).expect("the demo base");
    fs::write(path("empty.gguf"), b"").expect("written");
    fs::write(path("text.gguf"), b"Once upon a time there was a file.").expect("written");
    fs::write(path("cut.gguf"), &good[..good.len() / 2]).expect("written");
    let mut corrupt = good.clone();
    corrupt[16..24].copy_from_slice(&u64::MAX.to_le_bytes()); // the number of metadata entries
    fs::write(path("corrupt.gguf"), corrupt).expect("written");
    let here = folder.path().display().to_string();
    for (file, words) in [
        (path("missing.gguf"), "no such file"),
        (here, "directory"),
        (path("empty.gguf"), "empty"),
        (path("text.gguf"), "GGUF"),
        (path("cut.gguf"), "cut.gguf"),
        (path("corrupt.gguf"), "corrupt.gguf"),
        (model("arm-cheerful.gguf"), "adapter"),
    ] {
        refused(&["generate", "--base", &file, "-n", "1", "x"], 1, &["base: ", words]);
        let arm = format!("a={file}");
        refused(
            &["generate", "--base", &model("base.gguf"), "--arm", &arm, "-n", "1", "x"],
            1,
            &["ARM \"a\": ", words],
        );
    }
}

#[test]
fn models_of_another_kind_or_vocabulary() {
    let Some(shared) = support::shared("models") else { return };
    let file = |name: &str| shared.join(name).display().to_string();
    refused(&["generate", "--base", &file("ggml-vocab-phi-3.gguf"), "x"], 1, &["weights"]);
    let arm = format!("small={}", file("arm-cheerful.gguf"));
    let words = ["ARM \"small\"", "the vocabularies differ", "token "];
    refused(&["generate", "--base", &model("base.gguf"), "--arm", &arm, "x"], 1, &words);
    let words = ["no token for", "leave it out"];
    refused(&["generate", "--base", &file("babyllama-char105.gguf"), "naïve 猫"], 1, &words);
}

#[test]
fn prompts_that_cannot_be_read() {
    let config = demo();
    let long = "a story ".repeat(400);
    refused(&["generate", "--config", &config, &long], 1, &["the prompt has", "context", "--n-ctx"]);
    refused(
        &["generate", "--config", &config, "--prompt-tokens", "1,99999"],
        1,
        &["token 99999 is outside the vocabulary"],
    );
    let mut child = genarm(&["generate", "--config", &config])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"caf\xe9");
    let output = child.wait_with_output().expect("output");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(talk.contains("standard input is not UTF-8 (byte 3)"), "{talk}");
}

#[test]
fn options_that_contradict_each_other() {
    let (config, base) = (demo(), model("base.gguf"));
    refused(&["generate", "--config", &config, "--prompt-tokens", "1", "a prompt"], 2, &["cannot be used with"]);
    refused(&["generate", "--config", &config, "--logprobs", "3", "x"], 2, &["--json"]);
    refused(&["generate", "--config", &config, "--weight", "cheerfull=1", "x"], 2, &["cheerful"]);
    refused(&["generate", "--config", &config, "--weight", "cheerful=nan", "x"], 2, &["finite"]);
    refused(&["generate", "--config", &config, "--profile", "hapy", "x"], 2, &["happy"]);
    refused(&["generate", "--base", &base, "--top-p", "1.5", "x"], 2, &["--top-p", "at most 1"]);
    refused(
        &["generate", "--base", &base, "--grammar", "root ::= \"a\"", "--json-schema", "{}", "x"],
        2,
        &["contradicts grammar"],
    );
    refused(&["generate", "x"], 2, &["--base"]);
    refused(&["bench", "--synthetic", "base=1M", "--base", &base], 2, &["--synthetic"]);
    refused(&["chat", "--base", &base], 1, &["chat template", "--chat-template"]);
}

#[test]
fn more_memory_than_there_is() {
    refused(
        &["generate", "--base", &model("base.gguf"), "-c", "2000000000", "x"],
        1,
        &["not enough memory", "--n-ctx"],
    );
}

#[test]
#[cfg(unix)]
fn ctrl_c_prints_what_there_is_and_exits_with_130() {
    use std::io::Read;
    let config = demo();
    let mut child = genarm(&["generate", "--config", &config, "--ignore-eos", "--n-ctx", "100000", "Once upon a time"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut first = [0; 8];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("a beginning");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let output = child.wait_with_output().expect("output");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.ends_with(b"\n"));
}
