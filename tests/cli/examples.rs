//! The programs of `examples/`, as cargo has built them beside the tests.

use std::process::Command;

/// Runs an example in the repository, and returns what it printed.
fn example(name: &str, args: &[&str]) -> String {
    let deps = std::env::current_exe().expect("this test").parent().expect("a folder").to_owned();
    let program = deps.with_file_name("examples").join(name);
    let output = Command::new(&program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn generate_writes_a_text_of_the_demo_models() {
    let text = example("generate", &["models/demo.yaml", "Once upon a time"]);
    assert!(text.split_whitespace().count() > 10, "{text}");
}

#[test]
fn live_weights_shows_both_halves() {
    let text = example("live_weights", &[]);
    let halves: Vec<_> = text.lines().map(|line| line.split_once(": ").expect("a half")).collect();
    assert_eq!(halves.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["cheerful = 0", "cheerful = 2"]);
    assert!(halves.iter().all(|(_, text)| !text.is_empty()));
}

#[test]
fn a_custom_expert_that_likes_new_tokens_gets_more_of_them() {
    let text = example("custom_expert", &[]);
    let distinct = |line: &str| -> usize {
        let (_, rest) = line.split_once("tokens, ").expect("a count");
        rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    let counts: Vec<_> = text.lines().filter(|line| line.starts_with("novelty = ")).map(distinct).collect();
    let [without, with] = counts[..] else { panic!("{text}") };
    assert!(with > without, "{text}");
}
