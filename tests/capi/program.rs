//! A C program that is guided through `genarm.h`, under AddressSanitizer.

use std::process::{Command, Output};

use genarm::config::{Config, Overrides};
use genarm::session::Session;

use super::{built, demo, libraries, run, tokens};

fn program(case: &str, change: impl Fn(&mut Vec<(u32, Vec<u8>)>)) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = tokens(folder.path(), change);
    // A library that is opened for the process is still there at its end; what is still reachable is no leak.
    let mut command = Command::new(built().join("program"));
    command.args([case.as_ref(), demo().as_os_str(), tokens.as_os_str()]).env("ASAN_OPTIONS", "detect_leaks=1");
    run(&mut command)
}

fn passes(case: &str) -> String {
    let output = program(case, |_| {});
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !talk.contains("Sanitizer"), "{case}: {talk}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn only_genarms_functions_are_exported() {
    let library = libraries().join("libgenarm.so");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().expect("nm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let symbols: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let foreign: Vec<_> = symbols.iter().filter(|symbol| !symbol.starts_with("genarm_")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let header = include_str!("../../include/genarm.h");
    for symbol in &symbols {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is not in genarm.h");
    }
    assert_eq!(symbols.len(), header.matches("genarm_status genarm_").count() + 3, "and all of the header's are there");
}

#[test]
fn a_c_host_sees_the_logits_that_the_library_computes() {
    let output = passes("logits");
    let theirs: Vec<f32> = output.lines().map(|line| line.parse().expect("a number")).collect();
    let config = Config::load(Some(&demo()), &Overrides::default()).expect("the demo");
    let session = Session::open(config, &mut |_, _| true).expect("the demo's models");
    let mut ours = vec![0.0; session.vocab().n_tokens()];
    session.hook().with_guide(|guide| guide.add(&[1, 2, 3, 4, 5], 1, &mut ours)).expect("a row");
    assert_eq!(ours.len(), theirs.len());
    let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-3, "{difference}");
}

#[test]
fn a_thousand_samplers_come_and_go_in_any_order_without_a_leak() {
    passes("life");
}

#[test]
fn every_mistake_is_a_code_with_a_reason_and_no_crash() {
    passes("errors");
}

#[test]
fn eight_threads_set_weights_while_two_generate() {
    passes("threads");
}

#[test]
fn a_vocabulary_is_known_by_what_it_holds_and_not_by_its_address() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let others = tempfile::tempdir().expect("a temporary folder");
    let same = tokens(folder.path(), |_| {});
    let other = tokens(others.path(), |tokens| tokens[300].1 = b"elsewhere".to_vec());
    let mut command = Command::new(built().join("program"));
    let output = run(command.arg("swapped").arg(demo()).args([same, other]).env("ASAN_OPTIONS", "detect_leaks=1"));
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !talk.contains("Sanitizer"), "{talk}");
}

#[test]
fn a_host_with_other_tokens_is_refused_by_their_names() {
    let output = program("refused", |tokens| tokens[300].1 = b"elsewhere".to_vec());
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("token 300 is \"elsewhere\" in the base") && text.contains("the host's model"), "{text}");
    let output = program("refused", |tokens| tokens.truncate(400));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
