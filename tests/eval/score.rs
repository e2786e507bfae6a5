use genarm::Expert;

use super::{demo, failure, file, json, stdout};
use crate::support;

const PROMPT: &str = "Tom had a ball.";
const RESPONSE: &str = " He was happy and smiled.";

/// log π of a token, from raw logits, in double precision: nothing of genarm's arithmetic.
fn log_prob(row: &[f32], token: usize) -> f64 {
    let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row[token] - most - row.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}

#[test]
fn scores_are_those_of_an_independent_computation_from_raw_logits() {
    let (base, arm) = (demo("base.gguf"), demo("arm-talkative.gguf"));
    let given = format!("talkative={arm}:0.5");
    let out = json(&[
        "score",
        "--base",
        &base,
        "--arm",
        &given,
        "--json",
        "--cache-type-k",
        "f32",
        "--flash-attn",
        "off",
        "--cache-type-v",
        "f32",
        PROMPT,
        RESPONSE,
    ]);
    let models = [support::load(base.as_ref()), support::load(arm.as_ref())];
    let vocab = models[0].vocab();
    let prompt = vocab.tokenize(PROMPT, true, true).expect("tokens");
    let whole = vocab.tokenize(&format!("{PROMPT}{RESPONSE}"), true, true).expect("tokens");
    assert!(whole.starts_with(&prompt), "the prompt ends at a token");
    let tokens = out["responses"][0]["tokens"].as_array().expect("tokens");
    assert_eq!(tokens.len(), whole.len() - prompt.len());
    // One batch, as the command reads it: llama.cpp's products of one row and of many differ in the fourth digit.
    let rows = models.each_ref().map(|model| {
        let mut expert = support::sequence(model);
        expert.advance(&whole[..whole.len() - 1], tokens.len()).expect("logits").to_vec()
    });
    let (mut sums, mut kl_sum) = ([0.0; 2], 0.0);
    for (i, cell) in tokens.iter().enumerate() {
        let at = prompt.len() + i;
        let token = whole[at] as usize;
        let rows = rows.each_ref().map(|rows| &rows[i * vocab.n_tokens()..][..vocab.n_tokens()]);
        let guided: Vec<f32> = rows[0].iter().zip(rows[1]).map(|(b, a)| b + 0.5 * a).collect();
        let kl: f64 =
            (0..guided.len()).map(|v| log_prob(&guided, v).exp() * (log_prob(&guided, v) - log_prob(rows[0], v))).sum();
        let number = |value: &serde_json::Value| value.as_f64().expect("a number");
        let expected = [log_prob(rows[0], token), log_prob(rows[1], token), log_prob(&guided, token), kl];
        let shown = [&cell["base"], &cell["arms"][0], &cell["guided"], &cell["kl"]].map(number);
        for (expected, shown) in expected.iter().zip(shown) {
            assert!((expected - shown).abs() < 1e-4, "token {i}: {expected} and {shown}");
        }
        let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a token");
        assert_eq!(cell["flipped"], best(&guided) != best(rows[0]));
        sums = [sums[0] + expected[0], sums[1] + expected[1]];
        kl_sum += kl;
    }
    let totals = &out["responses"][0]["totals"];
    for (expected, shown) in [(sums[0], &totals["base"]), (sums[1], &totals["arms"][0]), (kl_sum, &totals["kl"])] {
        assert!((expected - shown.as_f64().expect("a number")).abs() < 1e-3);
    }
    // β_r comes from the ARM's own file.
    let reward = out["responses"][0]["rewards"][0].as_f64().expect("a number");
    assert!((reward - 0.2 * sums[1]).abs() < 1e-3, "{reward} {}", sums[1]);
    for key in ["genarm", "config", "models"] {
        assert!(!out["about"][key].is_null(), "{key}");
    }
}

#[test]
fn of_two_responses_the_cheerful_arm_prefers_the_happy_one_and_says_where() {
    let config = demo("demo.yaml");
    let text = stdout(&["score", "-f", &config, "--show", "cheerful", PROMPT, RESPONSE, " He was sad and cried."]);
    assert!(text.contains("cheerful prefers response A"), "{text}");
    assert!(text.contains("⁺") && text.contains("⁻") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn pairs_are_read_from_a_file_one_object_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = "{\"prompt\":\"Tom had a ball.\",\"chosen\":\" He was happy.\",\"rejected\":\" He was sad.\"}\n";
    let path = file(&folder, "pairs.jsonl", &line.repeat(2));
    let out = stdout(&["score", "-f", &demo("demo.yaml"), "--json", "--file", &path]);
    let titles: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["responses"][1]["title"].clone())
        .collect();
    assert_eq!(titles, ["rejected", "rejected"]);
    let (talk, code) = failure(&["score", "-f", &demo("demo.yaml"), "--file", &path, "--html", "x.html"]);
    assert!(code == Some(2) && talk.contains("one prompt, and there are 2"), "{talk}");
    let bad = file(&folder, "bad.jsonl", &format!("{line}{{\"prompt\": \"x\"}}\n"));
    let (talk, code) = failure(&["score", "-f", &demo("demo.yaml"), "--file", &bad]);
    assert!(code == Some(1) && talk.contains("bad.jsonl:2:") && talk.lines().count() == 1, "{talk}");
    let (talk, code) = failure(&["score", "--base", &demo("base.gguf"), "a", "b"]);
    assert!(code == Some(2) && talk.contains("no ARM"), "{talk}");
}

#[test]
fn accuracy_tells_a_trained_arm_from_the_base() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = |name: &str, place: &str| {
        format!(
            "{{\"prompt\":\"{name} went to the {place}.\",\"chosen\":\" {name} was happy and had fun.\",\
             \"rejected\":\" {name} was sad and was hurt.\"}}\n"
        )
    };
    let names = ["Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Max", "Sue"];
    let lines: String = names.iter().flat_map(|n| ["park", "garden", "forest"].map(|p| pair(n, p))).collect();
    let path = file(&folder, "pairs.jsonl", &lines);
    let stem = folder.path().join("curve").display().to_string();
    let out = json(&["accuracy", "-f", &demo("demo.yaml"), "--pairs", &path, "--no-eos", "--json", "--plot", &stem]);
    let models = out["models"].as_array().expect("models");
    let names: Vec<_> = models.iter().map(|m| m["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["base", "cheerful", "talkative", "plain"]);
    let cheerful = &models[1];
    assert!(cheerful["by_sum"]["share"].as_f64().expect("a share") > 0.9, "{cheerful}");
    assert!(cheerful["by_sum"]["low"].as_f64() < cheerful["by_sum"]["share"].as_f64());
    assert_eq!(
        (&cheerful["counts"]["used"], &cheerful["reliability"]["beta"].as_f64().map(|b| (b * 10.0).round())),
        (&24.into(), &Some(2.0))
    );
    let of_buckets: u64 = cheerful["by_length"]
        .as_array()
        .expect("buckets")
        .iter()
        .map(|b| b["accuracy"]["n"].as_u64().expect("n"))
        .sum();
    assert_eq!(of_buckets, 24);
    for ending in ["svg", "png"] {
        assert!(folder.path().join(format!("curve.{ending}")).metadata().expect("a picture").len() > 1000);
    }
    assert!(
        stdout(&["accuracy", "-f", &demo("demo.yaml"), "--pairs", &path, "--no-eos"])
            .contains("reliability of cheerful")
    );
}
