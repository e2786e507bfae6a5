//! `genarm duel`: users that are simulated at the other end of its pipes.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use genarm::eval::gold::{Gold, Lexicon};
use genarm::{Config, Overrides};
use serde_json::Value;
use tempfile::TempDir;

use super::{demo, failure, file, genarm, stdout};
use crate::support::binary::fed;

/// The command, with short answers from the demo's models.
fn args(folder: &TempDir, more: &[&str]) -> Vec<String> {
    let choices = folder.path().join("choices.jsonl").display().to_string();
    let (config, prompts) = (demo("demo.yaml"), demo("prompts.jsonl"));
    let mut args = vec!["duel", "-f", &config, "--prompts", &prompts, "-k", "4", "--choices", &choices];
    if !more.contains(&"-n") {
        args.extend(["-n", "24"]);
    }
    args.extend(more);
    args.into_iter().map(str::to_owned).collect()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Runs the command with these lines typed; returns stdout and stderr.
fn typed(args: &[String], lines: &str) -> (String, String) {
    let output = fed(&mut genarm(&words(args)), lines);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{talk}");
    (String::from_utf8(output.stdout).expect("UTF-8"), talk)
}

fn lines(folder: &TempDir) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join("choices.jsonl")).expect("choices");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The two answers of the last duel that was shown.
fn shown(talk: &str) -> [String; 2] {
    let last = talk.rfind("── 1 ──").expect("an answer");
    let (first, rest) = talk[last..].split_once("── 2 ──").expect("another one");
    let second = rest.split_once("\nBetter:").expect("the question").0;
    [first.trim_start_matches("── 1 ──").trim().to_owned(), second.trim().to_owned()]
}

#[test]
fn each_choice_is_kept_at_once_as_a_pair_and_the_next_run_goes_on_from_there() {
    let folder = TempDir::new().expect("a folder");
    let (_, talk) = typed(&args(&folder, &[]), "1\n2\n=\n");
    let kept = lines(&folder);
    assert_eq!(kept.len(), 3);
    let texts: Vec<[String; 2]> =
        talk.split_inclusive("Better:").filter(|part| part.contains("── 1 ──")).map(shown).collect();
    let text = |line: usize, key: &str| kept[line][key].as_str().expect("a text").trim().to_owned();
    assert_eq!([text(0, "chosen"), text(0, "rejected")], texts[0]);
    assert_eq!([text(1, "rejected"), text(1, "chosen")], texts[1]);
    // Both alike: no reader of the file may learn a preference from it.
    assert_eq!(
        [text(2, "chosen"), text(2, "rejected"), text(2, "alike")],
        [&texts[2][0], &texts[2][0], &texts[2][1]].map(String::clone)
    );
    assert!(!talk.contains("cheerful 1"), "which weights made an answer is not shown: {talk}");
    for line in &kept {
        let rewards = |key: &str| line[key].as_object().expect("rewards").keys().cloned().collect::<Vec<_>>();
        assert_eq!(rewards("chosen_rewards"), ["cheerful", "talkative", "plain"]);
        assert_eq!(rewards("rejected_weights"), ["cheerful", "talkative", "plain"]);
    }

    // What was interrupted goes on as if it had not been.
    let whole = TempDir::new().expect("a folder");
    let (at_once, _) = typed(&args(&whole, &["--json"]), "1\n2\n=\n2\n1\n");
    let (in_two, talk) = typed(&args(&folder, &["--json"]), "2\n1\n");
    assert!(talk.contains("3 choices are in"), "{talk}");
    let estimate = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")["estimate"].clone();
    assert_eq!(estimate(&at_once), estimate(&in_two));
    assert_eq!(lines(&whole), lines(&folder));
    assert_eq!((&estimate(&in_two)["n_choices"], &estimate(&in_two)["n_ties"]), (&5.into(), &1.into()));

    // Undo takes the line back, and asks the same again.
    let (undone, talk) = typed(&args(&folder, &["--json"]), "1\nu\nu\n1\n");
    assert_eq!((lines(&whole), estimate(&undone)), (lines(&folder), estimate(&in_two)), "{talk}");
    // Enough is enough: no model is loaded, nothing is asked.
    assert_eq!(estimate(&stdout(&words(&args(&folder, &["--json", "--duels", "5"])))), estimate(&in_two));

    // A killed process leaves half a line.
    let path = folder.path().join("choices.jsonl");
    let text = std::fs::read_to_string(&path).expect("choices");
    std::fs::write(&path, format!("{text}{{\"prompt\": \"On")).expect("written");
    typed(&args(&folder, &[]), "q\n");
    assert_eq!(std::fs::read_to_string(&path).expect("choices"), text);

    let (pairs, base, arm) = (path.display().to_string(), demo("base.gguf"), folder.path().join("arm.gguf"));
    let arm = arm.display().to_string();
    let trained = stdout(&["train", "--dry-run", "--backbone", &base, "--pairs", &pairs, "--out", &arm]);
    assert!(trained.contains("4 used") && trained.contains("1 identical"), "{trained}");

    // Conversations are kept as such.
    let chat = TempDir::new().expect("a folder");
    typed(&args(&chat, &["--chat", "--system", "Be kind."]), "2\n");
    let pair = &lines(&chat)[0];
    let roles: Vec<_> =
        pair["prompt"].as_array().expect("messages").iter().filter_map(|message| message["role"].as_str()).collect();
    assert_eq!((roles, &pair["chosen"][0]["role"]), (vec!["system", "user"], &"assistant".into()), "{pair}");
}

#[test]
fn the_profile_is_one_that_a_configuration_reads() {
    let folder = TempDir::new().expect("a folder");
    let out = folder.path().join("profile.yaml").display().to_string();
    let more = ["--out", &out, "--name", "my \"own\"", "--strength", "1.5"];
    let (table, _) = typed(&args(&folder, &more), "1\n2\n1\nq\n");
    assert!(table.contains("cheerful") && table.contains('±') && !table.contains("profiles:"), "{table}");
    let yaml = std::fs::read_to_string(&out).expect("a profile");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let absolute = |name: &str| models.join(name).display().to_string();
    let text = std::fs::read_to_string(models.join("demo.yaml")).expect("the demo");
    let text = ["base.gguf", "small.gguf", "arm-cheerful.gguf", "arm-plain.gguf", "arm-talkative.gguf"]
        .iter()
        .fold(text, |text, name| text.replace(&format!(": {name}"), &format!(": {}", absolute(name))));
    let config = file(&folder, "demo.yaml", &text.replace("profiles:\n", &yaml));
    let config = Config::load(Some(Path::new(&config)), &Overrides::default()).expect("a configuration");
    let weights = config.profile("my \"own\"").expect("the profile");
    assert!((weights.iter().map(|w| w.abs()).sum::<f32>() - 1.5).abs() < 0.01, "{weights:?}");
    // Without a file it is printed.
    let (printed, _) = typed(&args(&folder, &[]), "q\n");
    assert!(printed.contains("profiles:\n  \"mine\": {\"cheerful\": "), "{printed}");
}

#[test]
fn what_cannot_be_learned_from_is_refused_in_one_line() {
    let folder = TempDir::new().expect("a folder");
    let refused = |more: &[&str], part: &str| {
        let (talk, _) = failure(&words(&args(&folder, more)));
        assert!(talk.lines().count() == 1 && talk.contains(part), "{talk}");
    };
    refused(&["--strength", "0"], "--strength 0");
    refused(&["--name", ""], "--name is empty");
    refused(&["--out", &demo("prompts.jsonl")], "written over");
    refused(&["--system", "x"], "--chat");
    refused(&["--speculate", "off"], "--speculate");
    file(&folder, "choices.jsonl", "{\"chosen_rewards\": {\"kind\": 1.0}, \"rejected_rewards\": {\"kind\": 0.5}}\n");
    refused(&[], "choices.jsonl:1: not a choice of these duels: it has rewards of other objectives");
    file(&folder, "choices.jsonl", "a text\n");
    refused(&[], "choices.jsonl:1: not a choice");
    std::fs::remove_file(folder.path().join("choices.jsonl")).expect("removed");
    // Nothing is said.
    let output = genarm(&words(&args(&folder, &[]))).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no choice was made"), "{output:?}");
    // Always the same text.
    let output = fed(&mut genarm(&words(&args(&folder, &["-n", "1", "--n-prompts", "2", "--temp", "0"]))), "1\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("raise --temp"), "{output:?}");
}

#[test]
fn a_user_who_likes_cheerful_stories_gets_more_weight_on_cheerful() {
    let folder = TempDir::new().expect("a folder");
    let command = args(&folder, &["--json", "--duels", "12", "-n", "48"]);
    let lexicon = Lexicon::load(Path::new(&demo("lexicon.yaml"))).expect("words");
    let mut child = genarm(&words(&command))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let (mut typed, mut talk) = (child.stdin.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = talk.read(&mut buffer).expect("the talk");
        if n == 0 {
            break;
        }
        text.extend(&buffer[..n]);
        if text.ends_with(b"> ") {
            let score = shown(&String::from_utf8_lossy(&text)).map(|answer| Gold::Cheerful.reward(&answer, &lexicon));
            let said = if score[0] > score[1] {
                "1"
            } else if score[0] < score[1] {
                "2"
            } else {
                "="
            };
            writeln!(typed, "{said}").expect("a line");
        }
    }
    drop(typed);
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    let learned: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let weights = &learned["estimate"]["weights"];
    let weight = |name: &str| weights[name].as_f64().expect("a weight");
    println!("{learned:#}");
    assert!(weight("cheerful") > 0.4 && weight("cheerful") > weight("talkative").max(weight("plain")), "{learned}");
}
