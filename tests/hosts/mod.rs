//! Unmodified llama.cpp tools under `genarm run`, and programs that link `libgenarm` beside llama.cpp.
//!
//! `make test-hosts` builds the tools and runs these; without it there is nothing to run.

mod completion;
mod ollama;
mod programs;
mod python;
mod server;
mod speed;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What `scripts/test-hosts` has built.
fn hosts() -> PathBuf {
    std::env::var_os("GENARM_HOSTS").map(PathBuf::from).expect("GENARM_HOSTS is set by make test-hosts")
}

fn bin(name: &str) -> PathBuf {
    hosts().join("build/bin").join(name)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn base() -> PathBuf {
    root().join("models/base.gguf")
}

fn demo() -> PathBuf {
    root().join("models/demo.yaml")
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env_remove("GENARM_LOG").env_remove("GENARM_CONFIG").env("NO_COLOR", "1");
    command
}

/// `genarm run` with this configuration and these options; the tool comes after.
fn guided(config: &Path, options: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_genarm"));
    command.arg("run").arg("--strict").arg("--config").arg(config).args(options).arg("--");
    command
}

/// Standard output and error of a command that must succeed.
fn output(command: &mut Command) -> (String, String) {
    let output = command.output().expect("the program runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {talk}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), talk)
}

/// The likeliest tokens after some tokens, with probabilities, as `genarm generate --logprobs` has them.
fn expected(config: &Path, weights: &[&str], tokens: &[i64], n: usize) -> Vec<(i64, f64)> {
    let ids: Vec<_> = tokens.iter().map(i64::to_string).collect();
    let mut command = command(env!("CARGO_BIN_EXE_genarm"));
    // An end of text that happens to be drawn has no step to report; the report itself is of the distribution before
    // any bias.
    command.args(["generate", "--json", "-n", "1", "--temp", "1", "--ignore-eos", "--logprobs", &n.to_string()]);
    command.arg("--config").arg(config).args(["--prompt-tokens", &ids.join(",")]);
    command.args(weights.iter().flat_map(|weight| ["--weight", weight]));
    let json: Value = serde_json::from_str(&output(&mut command).0).expect("JSON");
    let top = json["logprobs"][0]["top"].as_array().expect("the likeliest tokens");
    let entry = |t: &Value| (t["token"].as_i64().expect("a token"), t["logprob"].as_f64().expect("a number").exp());
    top.iter().map(entry).collect()
}

/// The largest difference of two lists of probabilities, by token; those that only one lists count against 0.
fn difference(ours: &[(i64, f64)], theirs: &[(i64, f64)]) -> f64 {
    let of = |list: &[(i64, f64)], token| list.iter().find(|(t, _)| *t == token).map(|(_, p)| *p);
    ours.iter().map(|(token, p)| (p - of(theirs, *token).unwrap_or(0.0)).abs()).fold(0.0, f64::max)
}
