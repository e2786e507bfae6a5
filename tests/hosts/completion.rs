//! llama-completion.

use std::path::Path;

use super::{base, bin, command, demo, guided, output};
use crate::real;

const ARGUMENTS: [&str; 14] = [
    "-p",
    "Once upon a time, there was a",
    "-n",
    "40",
    "--seed",
    "7",
    "--temp",
    "0.8",
    "-c",
    "512",
    "-no-cnv",
    "--no-warmup",
    "-lv",
    "3",
];

fn alone() -> (String, String) {
    output(command(bin("llama-completion")).arg("-m").arg(base()).args(ARGUMENTS))
}

fn under(options: &[&str]) -> (String, String) {
    output(guided(&demo(), options).arg(bin("llama-completion")).arg("-m").arg(base()).args(ARGUMENTS))
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn the_chain_that_the_tool_prints_begins_with_genarm() {
    let chain = |talk: &str| {
        let line = talk.lines().find(|line| line.contains("sampler chain:")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no sampler chain in {talk}"))
    };
    let (out, talk) = under(&[]);
    let line = chain(&(talk + &out));
    assert!(line.contains("sampler chain: logits -> genarm -> "), "{line}");
    let (out, talk) = alone();
    assert!(!chain(&(talk + &out)).contains("genarm"));
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn weights_of_0_give_the_text_of_the_tool_alone_and_others_another() {
    let (alone, neutral, happy) = (alone().0, under(&["--profile", "neutral"]).0, under(&["--profile", "happy"]).0);
    assert!(alone.len() > 80, "{alone}");
    assert!(same(&neutral, &alone), "{neutral:?} {alone:?}");
    assert!(!same(&happy, &alone), "{happy:?} {alone:?}");
}

/// The tool prints the prompt too, and a line end after the text.
fn greedy_text_is_that_of_genarm_generate(model: &Path) {
    const LIMITS: [&str; 11] = ["-n", "48", "--temp", "0", "--ignore-eos", "-c", "512", "-t", "2", "-fa", "on"];
    for prompt in ["The capital of France is", "Once upon a time, there was a", "1, 2, 3, 4,", "To bake bread, first"] {
        let mut tool = command(bin("llama-completion"));
        tool.arg("-m").arg(model).args(LIMITS).args(["-no-cnv", "--no-warmup", "-p", prompt]);
        let mut ours = command(env!("CARGO_BIN_EXE_genarm"));
        ours.arg("generate").arg("--base").arg(model).args(LIMITS).args(["--speculate", "off", prompt]);
        let (tool, ours) = (output(&mut tool).0, output(&mut ours).0);
        let tool = tool.strip_prefix(prompt).expect("the prompt comes first").trim_end();
        assert!(tool.len() > 40 && tool == ours.trim_end(), "{prompt}: {tool:?} {ours:?}");
    }
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn the_greedy_texts_of_smollm2_are_those_of_llama_completion() {
    greedy_text_is_that_of_genarm_generate(&real::smollm2());
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn the_greedy_texts_of_gemma_are_those_of_llama_completion() {
    greedy_text_is_that_of_genarm_generate(&real::gemma());
}

/// On a busy machine the tool itself, guided or not, loses the end of what it writes (its log is another thread, not
/// waited for).
fn same(a: &str, b: &str) -> bool {
    let n = a.len().min(b.len());
    n > 60 && a.as_bytes()[..n] == b.as_bytes()[..n]
}
