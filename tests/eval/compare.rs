//! `genarm compare`, with judges that are real HTTP servers.

use std::sync::Mutex;

use super::judge::judge;
use super::{demo, failure, json};

fn compare(more: &[&str]) -> serde_json::Value {
    let (config, prompts) = (demo("demo.yaml"), demo("prompts.jsonl"));
    let args = ["compare", "-f", &config, "--prompts", &prompts, "-n", "24", "--temp", "1", "--json"];
    json(&[&args[..], more].concat())
}

/// The answers of a question, in the order in which the judge sees them.
fn answers(question: &str) -> (&str, &str) {
    let part = |from: &str, to: &str| {
        let rest = &question[question.find(from).expect("an answer") + from.len()..];
        &rest[..rest.find(to).expect("its end")]
    };
    (part("assistant 1]\n", "\n[End of answer 1]"), part("assistant 2]\n", "\n[End of answer 2]"))
}

#[test]
fn a_judge_that_favours_the_first_answer_favours_nobody() {
    let (url, seen) = judge(|_| (200, "9 3\nThe first is better.".into()));
    let out = compare(&["--n-prompts", "60", "--a", "base", "--b", "genarm:cheerful=2", "--judge", &url]);
    let row = &out["rows"][1]["against_a"];
    let share = row["rate"]["share"].as_f64().expect("a share");
    // 60 tosses of a coin: within 4 standard errors, and in both orders.
    assert!((share - 0.5).abs() < 0.26 && row["wins"].as_u64() > Some(0) && row["losses"].as_u64() > Some(0), "{row}");
    assert_eq!(seen.lock().expect("a log").len(), 60);
}

#[test]
fn a_judge_that_can_count_finds_the_talkative_side_in_any_order() {
    let (url, _) = judge(|question| {
        let (first, second) = answers(question);
        let score = |text: &str| (1 + text.matches('"').count()).min(10);
        (200, format!("{} {}\n", score(first), score(second)))
    });
    let ways = ["--a", "base", "--b", "genarm:talkative=1", "--n-prompts", "24"];
    let out = compare(&[&ways[..], &["--judge", &url, "--judge", "talkative"]].concat());
    let rows = out["rows"].as_array().expect("rows");
    let (asked, counted) = (&rows[1]["against_a"], &rows[3]["against_a"]);
    assert_eq!(asked, counted, "asking and counting agree");
    assert!(asked["rate"]["low"].as_f64() > Some(0.5), "{asked}");
    assert!(rows[3]["reward"]["mean"].as_f64() > rows[2]["reward"]["mean"].as_f64());
}

#[test]
fn a_verdict_that_cannot_be_read_is_a_failure_and_no_tie() {
    let (url, _) = judge(|question| (200, if question.contains("Once") { "I cannot say." } else { "5 5" }.into()));
    let out = compare(&["--n-prompts", "12", "--a", "base", "--b", "args-5:cheerful=1", "--judge", &url]);
    let row = &out["rows"][1]["against_a"];
    let count = |key: &str| row[key].as_u64().expect("a count");
    assert!(count("failures") > 0 && count("ties") > 0, "{row}");
    assert_eq!(count("failures") + count("ties"), 12);
    assert_eq!(row["rate"]["n"].as_u64(), Some(count("ties")));
}

#[test]
fn a_busy_judge_is_asked_again_and_a_refusing_one_is_quoted() {
    let turns = Mutex::new(0);
    let (url, seen) = judge(move |_| {
        let mut turns = turns.lock().expect("turns");
        *turns += 1;
        if *turns == 1 { (429, "later".into()) } else { (200, "3 4".into()) }
    });
    let out = compare(&[
        "--n-prompts",
        "2",
        "--judge-jobs",
        "1",
        "--a",
        "base",
        "--b",
        "best-of-2:cheerful=1",
        "--judge",
        &url,
    ]);
    assert_eq!(out["rows"][1]["against_a"]["rate"]["n"], 2);
    assert_eq!(seen.lock().expect("a log").len(), 3);
    let (config, prompts) = (demo("demo.yaml"), demo("prompts.jsonl"));
    let args = [
        "compare",
        "-f",
        &config,
        "--prompts",
        &prompts,
        "--n-prompts",
        "1",
        "-n",
        "2",
        "--a",
        "base",
        "--b",
        "genarm",
    ];
    let (url, _) = judge(|_| (401, "no key".into()));
    let (talk, code) = failure(&[&args[..], &["--judge", &url]].concat());
    assert!(code == Some(1) && talk.contains("answers 401") && talk.lines().count() == 1, "{talk}");
    let (talk, code) = failure(&[&args[..], &["--judge", "harmless=judge:http://127.0.0.1:9/v1"]].concat());
    assert!(code == Some(1) && talk.contains("/v1?") && talk.lines().count() == 1, "{talk}");
}

#[test]
fn every_way_to_answer_runs_and_a_model_alone_has_no_divergence() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("texts.jsonl").display().to_string();
    let dpo = format!("{}+{}", demo("base.gguf"), demo("dpo-cheerful.gguf"));
    let mut args = vec!["--n-prompts", "8", "--judge", "cheerful", "--gap", "--a", "base", "--out", &out];
    for way in ["genarm:cheerful=1", "best-of-4:cheerful=1", "args-10:cheerful=1", &dpo] {
        args.extend(["--b", way]);
    }
    let result = compare(&args);
    let rows = result["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 5);
    assert!(rows[4]["kl"].is_null() && rows[4]["gap"] == 1.0 && rows[0]["gap"] == 0.0, "{rows:?}");
    // Guidance among ten candidates diverges less than among all.
    assert!(rows[3]["kl"].as_f64() > Some(0.0));
    let lines = std::fs::read_to_string(&out).expect("texts");
    assert_eq!(lines.lines().count(), 9);
    let second: serde_json::Value = serde_json::from_str(lines.lines().nth(1).expect("a line")).expect("JSON");
    assert_eq!(second["texts"].as_object().map(serde_json::Map::len), Some(5));
}

#[test]
fn formulas_with_negative_weights_are_configurations_that_follow_their_law() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let prompts = demo("prompts.jsonl");
    for (name, weights) in [
        ("proxy-tuning", [1.0, -1.0]),
        ("contrastive-decoding", [0.5, -0.5]),
        ("classifier-free-guidance", [0.5, -0.5]),
    ] {
        let config = folder.join(format!("{name}.yaml")).display().to_string();
        let out = json(&[
            "generate",
            "-f",
            &config,
            "--temp",
            "1",
            "-n",
            "6",
            "--seed",
            "1",
            "--json",
            "--logprobs",
            "50",
            "Tom had a ball.",
        ]);
        for step in out["logprobs"].as_array().expect("steps") {
            let top = step["top"].as_array().expect("tokens");
            let number = |v: &serde_json::Value| v.as_f64().expect("a number");
            let arm = |t: &serde_json::Value, i: usize| weights[i] * number(&t["arms"][i]["logprob"]);
            let shift = |t: &serde_json::Value| number(&t["logprob"]) - number(&t["base"]) - arm(t, 0) - arm(t, 1);
            assert!(top.iter().all(|t| (shift(t) - shift(&top[0])).abs() < 2e-3), "{name}");
        }
        let ways = ["compare", "--prompts", &prompts, "--n-prompts", "4", "-n", "8", "--json", "--judge", "plain"];
        let result = json(&[&ways[..], &["--a", &demo("base.gguf"), "--b", &config]].concat());
        assert!(result["rows"][1]["kl"].as_f64() > Some(0.0), "{name}: {result}");
    }
    // Of the prompt, the reading without it has nothing.
    let config = folder.join("classifier-free-guidance.yaml").display().to_string();
    let scores = |prompt: &str| {
        let out = json(&["score", "-f", &config, "--json", prompt, " He was happy."]);
        out["responses"][0]["totals"]["arms"].clone()
    };
    let (a, b) = (scores("Tom had a ball."), scores("\"No!\" said the big red dog."));
    assert!(a[0] != b[0] && a[1] == b[1], "{a} {b}");
}
