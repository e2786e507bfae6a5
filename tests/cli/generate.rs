use super::{demo, fed, genarm, json, model, run, stdout};
use crate::support::binary::failure;

const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

fn generate(args: &[&str]) -> serde_json::Value {
    let config = demo();
    json(&[&["generate", "--config", &config, "--json"], args].concat())
}

#[test]
fn raising_the_weight_of_cheerful_changes_the_text_and_its_reward() {
    // The cheerful ARM's own log-probability of the text: what guidance raises.
    let reward = |weight: &str| {
        let mut sum = 0.0;
        let mut texts = Vec::new();
        for seed in ["1", "2", "3", "4", "5", "6"] {
            let out =
                generate(&["--weight", weight, "--seed", seed, "-n", "40", "--logprobs", "0", "--temp", "1", PROMPT]);
            let steps = out["logprobs"].as_array().expect("steps");
            let step = |s: &serde_json::Value| s["chosen"]["arms"][0]["logprob"].as_f64().expect("a number");
            sum += steps.iter().map(step).sum::<f64>() / steps.len() as f64;
            texts.push(out["text"].clone());
        }
        (sum, texts)
    };
    let (base, base_texts) = reward("cheerful=0");
    let (guided, guided_texts) = reward("cheerful=2");
    assert_ne!(base_texts, guided_texts);
    assert!(guided > base + 1.0, "{base} {guided}");
}

#[test]
fn weight_zero_is_the_base_alone() {
    let (base, config) = (model("base.gguf"), demo());
    let alone = stdout(&["generate", "--base", &base, "--seed", "3", "--temp", "0.8", "-n", "30", PROMPT]);
    let off = ["--weight", "cheerful=0", "--weight", "talkative=0", "--weight", "plain=0"];
    let mut args = vec!["generate", "--config", &config, "--seed", "3", "-n", "30", PROMPT];
    args.extend(off);
    assert_eq!(stdout(&args), alone);
    args.extend(["--json"]);
    assert_eq!(json(&args)["timings"]["arms_decoded"], 0);
}

#[test]
fn the_number_of_threads_does_not_change_a_text() {
    // Flash attention splits only texts of more than 256 tokens among threads.
    let text =
        |threads: &[&str]| generate(&[threads, &["--temp", "0", "-n", "150", PROMPT]].concat())["tokens"].clone();
    let one = text(&["--threads", "1"]);
    assert_eq!((&text(&["--threads", "2"]), &text(&["--threads", "3"]), &text(&[])), (&one, &one, &one));
}

#[test]
fn the_prompt_may_come_from_everywhere() {
    let config = demo();
    let expected = stdout(&["generate", "--config", &config, "--seed", "3", "-n", "12", PROMPT]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, format!("{PROMPT}\n")).expect("a file");
    let file = file.display().to_string();
    assert_eq!(stdout(&["generate", "--config", &config, "--seed", "3", "-n", "12", "--file", &file]), expected);
    let piped = fed(&mut genarm(&["generate", "--config", &config, "--seed", "3", "-n", "12"]), PROMPT);
    assert_eq!(String::from_utf8_lossy(&piped.stdout), expected);
    let out = json(&["generate", "--config", &config, "--json", "-n", "1", "--prompt-tokens", "5,6,7"]);
    assert_eq!(out["usage"]["prompt_tokens"], 3);
}

#[test]
fn the_end_of_a_text_has_a_reason() {
    assert_eq!(generate(&["--seed", "3", "-n", "5", PROMPT])["finish_reason"], "length");
    let stopped = generate(&["--seed", "3", "-n", "200", "--stop", ".", PROMPT]);
    assert_eq!(stopped["finish_reason"], "stop");
    assert!(!stopped["text"].as_str().expect("a text").contains('.'));
    let full = generate(&["--n-ctx", "32", "--ignore-eos", PROMPT]);
    assert_eq!(full["finish_reason"], "length");
    let total = full["usage"]["total_tokens"].as_u64().expect("a number");
    assert!((32..=33).contains(&total), "{total}");
}

#[test]
fn logprobs_list_the_guided_distribution_with_everybodys_share() {
    let out = generate(&["-n", "3", "--temp", "0.7", "--weight", "cheerful=1.5", "--logprobs", "2048", PROMPT]);
    for step in out["logprobs"].as_array().expect("steps") {
        let top = step["top"].as_array().expect("tokens");
        assert_eq!(top.len(), 2048);
        let number = |v: &serde_json::Value| v.as_f64().expect("a number");
        let mass: f64 = top.iter().map(|t| number(&t["logprob"]).exp()).sum();
        assert!((mass - 1.0).abs() < 1e-3, "{mass}");
        // (log base + 1.5 · log cheerful) / T differs from the guided one by one constant.
        let law = |t: &serde_json::Value| (number(&t["base"]) + 1.5 * number(&t["arms"][0]["logprob"])) / 0.7;
        let shift = |t: &serde_json::Value| number(&t["logprob"]) - law(t);
        assert!(top.iter().all(|t| (shift(t) - shift(&top[0])).abs() < 2e-3));
    }
}

#[test]
fn chat_takes_commands_and_answers() {
    let config = demo();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json").display().to_string();
    let input = format!(
        "Tom had a ball.\n/weight cheerful=2\n/retry\n/profile chatty\n/undo\nLily ran.\n/save {file}\n/quit\n"
    );
    let args = ["chat", "--config", &config, "--chat-template", "raw", "--seed", "1", "-n", "8"];
    let output = fed(&mut genarm(&args), input);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    assert!(
        talk.contains("cheerful=2") && talk.contains("talkative=0.7") && talk.contains("removed: Tom had a ball."),
        "{talk}"
    );
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("saved")).expect("JSON");
    assert_eq!(saved["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!(saved["messages"][0]["content"], "Lily ran.");
}

#[test]
fn schema_and_completions_are_printed() {
    let schema: serde_json::Value = serde_json::from_str(&stdout(&["schema"])).expect("JSON");
    assert!(schema["properties"]["arms"].is_object());
    assert!(stdout(&["completions", "bash"]).contains("genarm"));
    assert_eq!(run(&["generate", "--nonsense"]).status.code(), Some(2));
}

#[test]
fn bench_reports_every_part() {
    let out = json(&[
        "bench",
        "--synthetic",
        "base=40M,arm=34M",
        "--n-gen",
        "4",
        "--n-prompt",
        "8",
        "--repeats",
        "2",
        "--json",
        "-c",
        "64",
    ]);
    assert_eq!((out["arms"][0].as_str(), out["n_vocab"].as_u64()), (Some("arm"), Some(128_256)));
    let times = &out["seconds_per_token"];
    for part in ["base", "guided", "overhead", "guided_to_ideal", "overhead_share"] {
        assert!(times[part].as_f64().is_some_and(|x| x > 0.0), "{part}: {times}");
    }
}

#[test]
fn bench_makes_a_hybrid_with_adapters() {
    let models = "base=40M,arm=r4";
    let few = ["--n-gen", "2", "--n-prompt", "4", "--repeats", "2", "-c", "64", "--json"];
    let out = json(&[&["bench", "--synthetic", models, "--architecture", "lfm2"][..], &few].concat());
    assert!(out["shared_batch"]["speedup"].as_f64().is_some_and(|x| x > 0.0), "{out}");
}

#[test]
fn an_adapter_is_an_arm_by_itself_or_behind_its_model() {
    let (base, adapter) = (model("base.gguf"), model("arm-cheerful.gguf"));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("prefs.yaml");
    let text = format!("base: {{model: \"{base}\"}}\narms: {{glad: {{lora: [{{path: \"{adapter}\"}}]}}}}\n");
    std::fs::write(&config, text).expect("a configuration");
    let config = config.display().to_string();
    let sampling = ["--weight", "glad=0.7", "--temp", "0", "-n", "24", "Tom"];
    let wanted = stdout(&[&["generate", "-f", &config][..], &sampling].concat());
    for arm in [format!("glad={adapter}"), format!("glad={base}+{adapter}")] {
        assert_eq!(stdout(&[&["generate", "--base", &base, "--arm", &arm][..], &sampling].concat()), wanted, "{arm}");
    }
    // In place of what the file says: another adapter on the base.
    let other = format!("glad={}", model("dpo-cheerful.gguf"));
    assert_ne!(stdout(&[&["generate", "-f", &config, "--arm", &other][..], &sampling].concat()), wanted);
    let (talk, code) = failure(&["generate", "--base", &base, "--arm", &format!("glad={base}+{base}"), "Tom"]);
    assert!(code == Some(1) && talk.contains("ARM \"glad\"") && talk.contains("base.gguf"), "{talk}");
}
