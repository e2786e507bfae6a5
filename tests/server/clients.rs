//! OpenAI's own clients and others that speak its API, unchanged.

use std::path::PathBuf;
use std::process::Command;

use super::{Serve, root};
use crate::support::tool;

/// Runs a script against a server of the demo models with a key; its output on failure.
fn run(program: PathBuf, script: &str, folder: &str) {
    run_against(Serve::demo, program, script, folder);
}

/// As [`run`], against a server that takes these options, too.
fn run_against(start: impl FnOnce(&[&str]) -> Serve, program: PathBuf, script: &str, folder: &str) {
    let keys = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(keys.path(), "a-key-for-the-test\n").expect("written");
    let server = start(&["--parallel", "4", "--api-key-file", keys.path().to_str().expect("a path")]);
    let output = Command::new(program)
        .arg(root().join("tests/server").join(script))
        .arg(server.url("/v1"))
        .arg("a-key-for-the-test")
        .current_dir(root().join(folder))
        .output()
        .expect("the client runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{talk}");
    assert!(talk.contains("all is well"), "{talk}");
}

#[test]
fn the_python_client_works_unchanged() {
    let Some(python) = tool(&root().join("target/test-tools/python/bin/python"), "openai") else {
        return;
    };
    run(python, "openai_client.py", "target/test-tools");
}

#[test]
fn the_javascript_client_works_unchanged() {
    let package = root().join("target/test-tools/node_modules/openai");
    if tool(&package, "node").is_some() {
        run("node".into(), "openai_client.mjs", "target/test-tools");
    }
}

#[test]
fn langchain_llamaindex_litellm_and_llm_call_tools_unchanged() {
    let python = root().join("target/test-tools/python");
    if tool(&python.join("tool-clients"), "tool-clients").is_some() {
        run_against(super::tools::serve, python.join("bin/python"), "tool_clients.py", "target/test-tools");
    }
}
