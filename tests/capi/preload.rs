//! The preload, in a tool that was compiled without a thought of genarm.

use std::process::{Command, Output};

use super::{built, demo, run, tokens};

/// Runs the tool under `genarm run` with these options, or under the bare preload without any.
fn tool(options: Option<&[&str]>, environment: &[(&str, &str)], change: impl Fn(&mut Vec<(u32, Vec<u8>)>)) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = tokens(folder.path(), change);
    let mut command = match options {
        Some(options) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
            command.arg("run").args(options).arg("--").arg(built().join("tool"));
            command
        }
        None => {
            let mut command = Command::new(built().join("tool"));
            command.env("LD_PRELOAD", super::libraries().with_file_name("libgenarm_preload.so"));
            command
        }
    };
    run(command.arg(tokens).envs(environment.iter().copied()))
}

/// Runs the tool with a second model, of other tokens, that drafts; loaded after the base, or before it.
fn tool_with_draft(options: &[&str], first: bool) -> Output {
    let (base, draft) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let base_tokens = tokens(base.path(), |_| {});
    let draft_tokens = tokens(draft.path(), |tokens| tokens.truncate(400));
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    command.arg("run").args(options).arg("--").arg(built().join("tool")).args([base_tokens, draft_tokens]);
    run(command.args(first.then_some("first")))
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn genarm_stands_first_in_every_chain_and_once_in_a_clone() {
    let output = tool(Some(&["--config", &demo().display().to_string()]), &[], |_| {});
    let (out, talk) = texts(&output);
    assert_eq!(out, "chain: logits -> genarm -> top-k\nclone: logits -> genarm -> top-k\n", "{talk}");
    assert!(output.status.success() && talk.is_empty(), "{talk}");
}

#[test]
fn without_a_configuration_the_preload_does_nothing() {
    let (out, talk) = texts(&tool(None, &[], |_| {}));
    assert_eq!((out.as_str(), talk.as_str()), ("chain: logits -> top-k\nclone: logits -> top-k\n", ""));
}

#[test]
fn what_cannot_be_guided_runs_alone_with_one_line_or_ends_if_strict() {
    let config = demo().display().to_string();
    let other = |tokens: &mut Vec<(u32, Vec<u8>)>| tokens[300].1 = b"elsewhere".to_vec();
    let (out, talk) = texts(&tool(Some(&["--config", &config]), &[], other));
    assert_eq!(out, "chain: logits -> top-k\nclone: logits -> top-k\n");
    assert!(talk.contains("token 300") && talk.lines().count() == 1, "{talk}");
    let output = tool(Some(&["--config", &config, "--strict"]), &[], other);
    assert_eq!((output.status.code(), texts(&output).0), (Some(1), String::new()));
    let output = tool(Some(&["--config", &config]), &[("GENARM_SEQUENCES", "0")], |_| {});
    assert!(output.status.success(), "a senseless number is no reason to stop: {}", texts(&output).1);
}

#[test]
fn a_second_model_of_other_tokens_is_left_alone_and_the_base_is_guided_under_strict_too() {
    let config = demo().display().to_string();
    for options in [&["--config", &config, "--strict"][..], &["--config", &config]] {
        for first in [false, true] {
            let output = tool_with_draft(options, first);
            let (out, talk) = texts(&output);
            let chains = "draft: logits -> top-k\n".repeat(2)
                + "chain: logits -> genarm -> top-k\nclone: logits -> genarm -> top-k\nafter: logits -> genarm -> top-k\n";
            assert_eq!((out, output.status.code()), (chains, Some(0)), "{options:?}, {first}: {talk}");
            let names =
                talk.contains("the model \"stand-in of 400 tokens\" is not guided") && talk.contains("cannot guide");
            assert!(names && talk.lines().count() == 1, "{talk}");
        }
    }
}

#[test]
fn a_wrong_configuration_or_tool_is_told_before_anything_runs() {
    let output = tool(Some(&["--config", "no.yaml"]), &[], |_| {});
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("no.yaml: cannot read the configuration: no such file"));
    let output = tool(Some(&["--config", &demo().display().to_string(), "--weight", "grim=1"]), &[], |_| {});
    assert_eq!(output.status.code(), Some(2));
    let mut missing = Command::new(env!("CARGO_BIN_EXE_genarm"));
    let output = missing.args(["run", "--config", &demo().display().to_string(), "--", "./no-such-tool"]).output();
    let output = output.expect("the binary runs");
    assert!(output.status.code() == Some(1) && texts(&output).1.contains("cannot run ./no-such-tool"));
}

#[test]
fn an_arms_context_beyond_its_training_is_warned_of_once_in_a_host_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("long.yaml").display().to_string();
    let base = super::root().join("models/base.gguf").display().to_string();
    let yaml = format!(
        "base: {{model: {base}}}\narms: {{a: {{model: {base}, n_ctx: 9000}}, b: {{model: {base}, n_ctx: 9000}}}}\n"
    );
    std::fs::write(&config, yaml).expect("written");
    let (_, talk) = texts(&tool(Some(&["--config", &config]), &[], |_| {}));
    assert_eq!(talk.matches("base.gguf: a context of 9000 tokens is longer than the").count(), 1, "{talk}");
}

#[test]
fn a_program_without_llama_cpp_is_no_program_that_was_not_guided() {
    let config = demo().display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    let (out, talk) = texts(&run(command.args(["run", "--config", &config, "--", "true"])));
    assert_eq!((out.as_str(), talk.as_str()), ("", ""), "a program without llama.cpp has nothing to guide");
}
