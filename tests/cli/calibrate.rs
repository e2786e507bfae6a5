//! `genarm calibrate`, and what else reads ARMs with references and personas one by one.

use std::fs;

use serde_json::Value;

use super::{json, model, run, stdout};

/// A configuration on the demo models, in a folder of its own.
fn file(arms: &str) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("# mine\nbase: {{model: {}, threads: 1}}\narms:\n{arms}", model("base.gguf"));
    let path = folder.path().join("prefs.yaml");
    fs::write(&path, &text).expect("a file");
    fs::write(folder.path().join("prompts.txt"), "Once upon a time\nTom had a ball.\n").expect("a file");
    let path = path.display().to_string();
    (folder, path, text)
}

fn arms() -> String {
    format!(
        "  cheerful: {{lora: {}, weight: 0}} # kept\n  merry:\n    prefix: They laughed.\n",
        model("arm-cheerful.gguf")
    )
}

#[test]
fn a_range_is_found_for_each_arm_and_written_with_the_comments_kept() {
    let (folder, config, text) = file(&arms());
    let prompts = folder.path().join("prompts.txt").display().to_string();
    let args = ["calibrate", "--config", &config, "--prompts", &prompts, "-n", "8", "--json"];
    let found = json(&args);
    let ranges: Vec<[f64; 2]> =
        (0..2).map(|arm| [0, 1].map(|end| found["arms"][arm]["range"][end].as_f64().expect("a number"))).collect();
    for (arm, [low, high]) in found["arms"].as_array().expect("ARMs").iter().zip(&ranges) {
        assert!((-16.0..0.0).contains(low) && *high > 0.0 && *high <= 16.0, "{arm}");
        let [one, five] = [0, 1].map(|level| arm["reached"][level][1].as_f64());
        assert!(one.zip(five).is_none_or(|(one, five)| one < five), "{arm}");
    }
    assert_eq!(fs::read_to_string(&config).expect("the file"), text, "nothing is written unasked");
    stdout(&[&args[..], &["--write"]].concat());
    let written = fs::read_to_string(&config).expect("the file");
    assert!(written.contains("# mine") && written.contains("# kept"), "{written}");
    assert_eq!(written.matches("range: [").count(), 2, "{written}");
    let again: Value = json(&[&args[..], &["--write"]].concat());
    assert_eq!(again["arms"], found["arms"]);
    assert_eq!(fs::read_to_string(&config).expect("the file"), written, "the same again");
}

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let (_folder, config, text) = file(&format!("  talkative: {}\n", model("arm-talkative.gguf")));
    let output = run(&["calibrate", "--config", &config, "--write"]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && talk.contains("range of talkative"), "{talk}");
    assert!(output.stdout.is_empty() && fs::read_to_string(&config).expect("the file") == text);
}

#[test]
fn accuracy_refuses_arms_that_are_no_model_alone() {
    let (folder, config, _) = file(&arms());
    let pairs = folder.path().join("pairs.jsonl");
    fs::write(&pairs, "{\"prompt\": \"Tom\", \"chosen\": \" ran.\", \"rejected\": \" fell.\"}\n").expect("a file");
    let output = run(&["accuracy", "--config", &config, "--pairs", &pairs.display().to_string()]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && talk.contains("ARM \"merry\" has a reference"), "{talk}");
}

#[test]
fn a_persona_likes_a_token_more_than_the_base_and_not_than_nothing() {
    let (_folder, config, _) = file(&arms());
    let scored = json(&["score", "--config", &config, "--json", "Tom had a ball.", " He was happy."]);
    let tokens = scored["responses"][0]["tokens"].as_array().expect("tokens");
    let number = |value: &Value| value.as_f64().expect("a number");
    for token in tokens {
        assert_eq!(token["against"][1], token["base"], "the base is its reference");
        // A persona is the same model: it differs little.
        assert!((number(&token["arms"][1]) - number(&token["base"])).abs() < 5.0, "{token}");
    }
    let sum: f64 = tokens.iter().map(|token| number(&token["arms"][1]) - number(&token["base"])).sum();
    let total = number(&scored["responses"][0]["totals"]["arms"][1]);
    assert!((sum - total).abs() < 1e-3, "the reward is the difference: {sum} {total}");
}
