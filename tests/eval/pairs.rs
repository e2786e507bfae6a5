//! `genarm pairs`: answers, ratings and pairs on the demo models, and what `genarm train` makes of them.

use serde_json::Value;
use tempfile::TempDir;

use super::judge::judge;
use super::{demo, failure, file, json, stdout};

/// Arguments that answer six prompts four times.
fn args<'a>(folder: &'a TempDir, base: &'a str, prompts: &'a str, scorer: &'a [&'a str], out: &'a str) -> Vec<String> {
    let out = folder.path().join(out).display().to_string();
    let mut args = vec!["pairs", "--base", base, "--prompts", prompts, "--n-prompts", "6", "-k", "4", "-n", "16"];
    args.extend(["--temp", "1", "--parallel", "8", "--json"]);
    args.extend(scorer);
    args.into_iter().map(str::to_owned).chain(["--out".to_owned(), out]).collect()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn lines(folder: &TempDir, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join(name)).expect(name);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn pairs_of_rated_answers_are_what_training_reads() {
    let folder = TempDir::new().expect("a folder");
    let (base, prompts) = (demo("base.gguf"), demo("prompts.jsonl"));
    let made = args(&folder, &base, &prompts, &["--scorer", "cheerful"], "pairs.jsonl");
    let counts = json(&words(&made));
    let pairs = lines(&folder, "pairs.jsonl");
    assert_eq!((counts["prompts"].as_u64(), counts["answers"].as_u64()), (Some(6), Some(24)));
    assert_eq!(counts["pairs"].as_u64(), Some(pairs.len() as u64));
    assert!(counts["score_chosen"].as_f64() > counts["score_rejected"].as_f64(), "{counts}");
    // A line of particulars, and one per prompt with all answers.
    let kept = lines(&folder, "pairs.jsonl.answers.jsonl");
    assert_eq!(kept.len(), 7);
    assert!(kept[0]["models"].as_object().expect("hashes").keys().any(|name| name.ends_with("base.gguf")));
    for pair in &pairs {
        assert!(pair["score_chosen"].as_f64() > pair["score_rejected"].as_f64(), "{pair}");
        assert_eq!(pair["finish_chosen"], "length", "{pair}");
        let source = &pair["source"];
        assert_eq!((&source["scorer"], source["seed"].as_u64()), (&"cheerful".into(), Some(1)), "{source}");
        let of_prompt = &kept[1 + source["prompt"].as_u64().expect("a place") as usize]["answers"];
        let scores = of_prompt.as_array().expect("answers").iter().map(|a| a["score"].as_f64().expect("a score"));
        assert_eq!(pair["score_chosen"].as_f64(), scores.clone().reduce(f64::max));
        assert_eq!(pair["score_rejected"].as_f64(), scores.reduce(f64::min));
    }
    // Nothing is answered again: the same bytes, and with a margin some of the pairs.
    let before = std::fs::read(folder.path().join("pairs.jsonl")).expect("pairs");
    json(&words(&made));
    assert!(before == std::fs::read(folder.path().join("pairs.jsonl")).expect("pairs"));
    let few = json(&[&words(&made)[..], &["--margin", "1.5"]].concat());
    assert!(few["pairs"].as_u64() <= counts["pairs"].as_u64(), "{few}");
    let (talk, code) = failure(&[&words(&made)[..], &["--margin", "1000"]].concat());
    assert!(code == Some(1) && talk.contains("smaller --margin"), "{talk}");
    assert!(folder.path().join("pairs.jsonl").metadata().expect("the pairs").len() > 0, "the earlier pairs stay");
    let other = args(&folder, &base, &prompts, &["--scorer", "talkative"], "pairs.jsonl");
    let (talk, _) = failure(&words(&other));
    assert!(talk.contains("results of other work"), "{talk}");

    // Another scorer rates the same answers.
    let answers = folder.path().join("pairs.jsonl.answers.jsonl").display().to_string();
    let again = args(&folder, &base, &prompts, &["--scorer", "plain", "--answers-from", &answers], "plain.jsonl");
    json(&words(&again));
    let texts =
        |name| lines(&folder, name)[1..].iter().map(|line| line["answers"][2]["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts("plain.jsonl.answers.jsonl"), texts("pairs.jsonl.answers.jsonl"));
    assert!(lines(&folder, "plain.jsonl")[0]["score_chosen"].as_f64() < Some(0.0), "rated by another scorer");
    let other = args(&folder, &base, &prompts, &["--scorer", "plain", "--answers-from", &answers], "other.jsonl");
    let (talk, _) = failure(&[&words(&other)[..], &["--seed", "9"]].concat());
    assert!(talk.contains("other work"), "{talk}");

    json(&words(&made));
    let (pairs, arm) = (folder.path().join("pairs.jsonl"), folder.path().join("arm.gguf"));
    let [pairs, arm] = [pairs, arm].map(|path| path.display().to_string());
    let train = ["train", "--backbone", &base, "--pairs", &pairs, "--out", &arm, "--max-steps", "1", "--held-out", "0"];
    let outcome = json(&train);
    assert_eq!(outcome["counts"]["used"].as_u64(), counts["pairs"].as_u64());
    stdout(&["generate", "--base", &base, "--arm", &format!("mine={arm}"), "-n", "2", "Tom"]);
}

#[test]
fn an_arm_rates_answers_by_its_rewards_and_conversations_go_through_the_template() {
    let folder = TempDir::new().expect("a folder");
    let (base, arm) = (demo("base.gguf"), format!("glad={}", demo("arm-cheerful.gguf")));
    let prompts = file(
        &folder,
        "prompts.jsonl",
        r#"{"messages":[{"role":"system","content":"Be glad."},{"role":"user","content":"Tom"},{"role":"assistant","content":"x"}]}
{"prompt":"Anna"}
"#,
    );
    let more = ["--arm", &arm, "--scorer", "arm:glad", "--chat", "--chat-template", "hh"];
    let made = args(&folder, &base, &prompts, &more, "pairs.jsonl");
    json(&words(&made));
    let pairs = lines(&folder, "pairs.jsonl");
    let prompt = pairs[0]["prompt"].as_array().expect("messages");
    assert_eq!((prompt.len(), &prompt[0]["content"], &prompt[1]["content"]), (2, &"Be glad.".into(), &"Tom".into()));
    assert_eq!(pairs[1]["prompt"][0]["content"], "Anna");
    assert_eq!(pairs[0]["chosen"][0]["role"], "assistant");
    assert!(pairs[0]["score_chosen"].as_f64() < Some(0.0), "a reward is a log-probability: {}", pairs[0]);
    let (talk, code) = failure(&words(&args(&folder, &base, &prompts, &["--scorer", "arm:sad"], "x.jsonl")));
    assert!(code == Some(2) && talk.contains("sad"), "{talk}");
}

#[test]
fn a_judge_goes_by_a_sentence_and_by_the_probabilities_of_its_scores() {
    let folder = TempDir::new().expect("a folder");
    let (base, prompts) = (demo("base.gguf"), demo("prompts.jsonl"));
    // The more letters e, the better; certain of nothing.
    let (url, seen) = judge(|question| {
        let answer =
            &question[question.find("[Answer]").expect("an answer")..question.find("[End of").expect("its end")];
        let share = (answer.matches('e').count() as f64 / 20.0).min(0.9);
        (200, format!("9 {share}, 2 {}, Well 0.05", 0.95 - share))
    });
    let url = url.replace("helpful=", "full=");
    let criterion = "full=The answer has many letters e";
    let scorer = ["--scorer", &url, "--criterion", criterion, "--judge-logprobs"];
    let counts = json(&words(&args(&folder, &base, &prompts, &scorer, "pairs.jsonl")));
    assert_eq!((counts["unrated"].as_u64(), seen.lock().expect("a log").len()), (Some(0), 24));
    assert!(seen.lock().expect("a log")[0].contains("meets the criterion: The answer has many letters e."));
    let count = |value: &Value| value.as_str().expect("a text").matches('e').count();
    for pair in lines(&folder, "pairs.jsonl") {
        assert!(count(&pair["chosen"]) > count(&pair["rejected"]), "{pair}");
    }
    for (scorer, part) in [
        (vec!["--scorer", &url[..]], "add --criterion full="),
        (vec!["--scorer", "cheerful", "--judge-logprobs"], "--judge-logprobs has no effect"),
        (vec!["--scorer", "cheerful", "--max-kl", "1"], "--max-kl has no effect"),
        (vec!["--scorer", "cheerful", "--margin", "inf"], "--margin"),
        (vec!["--scorer", "chearful"], "did you mean \"cheerful\""),
    ] {
        let (talk, code) = failure(&words(&args(&folder, &base, &prompts, &scorer, "y.jsonl")));
        assert!(code == Some(2) && talk.contains(part), "{part}: {talk}");
    }
}
