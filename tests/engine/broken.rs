//! Models whose logits are no numbers: who is at fault is named, and an ARM's fault leaves the base's text.

use std::path::Path;

use genarm::config::{Config, Overrides};
use genarm::decode::DecodeError;
use genarm::guidance::score::{ScoredPrompts, score};
use genarm::session::Session;
use genarm::{Expert, ExpertError, Guide, Weights};
use serde_json::json;
use tempfile::TempDir;

use crate::server::Serve;
use crate::support::{self, binary, random};

/// A folder with a sound base, and ARMs whose logits are NaN or +inf: whole models and an adapter.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["base", "sound", "nan", "inf"] {
        random::model(&at(&format!("{name}.gguf")), "llama");
    }
    random::poison(&at("nan.gguf"), "output_norm.weight", 0..64, f32::NAN);
    // One number of a row: the token's logit is +inf or −inf, as the state's sign is; so it is +inf for one of two.
    random::poison(&at("inf.gguf"), "output.weight", 64 * 3..64 * 3 + 1, f32::INFINITY);
    random::poison(&at("inf.gguf"), "output.weight", 64 * 4..64 * 4 + 1, f32::NEG_INFINITY);
    random::lora(&at("lora.gguf"), "llama", 4, &["attn_q"], 1, None);
    random::poison(&at("lora.gguf"), "blk.1.attn_q.weight.lora_b", 0..8, f32::NAN);
    folder
}

fn write(folder: &Path, name: &str, yaml: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, yaml).expect("written");
    file.display().to_string()
}

fn generate(config: &str, more: &[&str]) -> (String, String, Option<i32>) {
    let args = ["generate", "-f", config, "--temp", "0", "-n", "12", "Once upon a time"];
    let output = binary::run(&[&args[..], more].concat());
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

const DOORS: [&[&str]; 5] = [
    &["--speculate", "off"],
    &["--speculate", "lookup"],
    &["--speculate", "base"],
    &["--speculate", "arm"],
    &["--share-batch", "on", "--speculate", "off"],
];

#[test]
fn an_arm_whose_logits_are_no_numbers_leaves_the_base_alone_and_is_named_once() {
    let folder = folder();
    let alone = write(folder.path(), "alone.yaml", "base: {model: base.gguf}\n");
    let expected = generate(&alone, &[]).0;
    assert!(!expected.is_empty());
    for (arm, what) in
        [("{model: nan.gguf}", "NaN"), ("{model: inf.gguf}", "+inf"), ("{lora: [{path: lora.gguf}]}", "NaN")]
    {
        let yaml = format!("base: {{model: base.gguf}}\narms: {{grim: {arm}}}\n");
        let config = write(folder.path(), "arm.yaml", &yaml);
        for door in DOORS {
            let (text, talk, code) = generate(&config, door);
            assert_eq!((text.as_str(), code), (expected.as_str(), Some(0)), "{arm}, {door:?}: {talk}");
            let named = talk.lines().filter(|line| line.contains("ARM \"grim\"") && line.contains(what)).count();
            assert!(named >= 1, "{arm}, {door:?}: {talk}");
            assert_eq!(
                talk.matches("guidance failed; the text goes on without guidance").count(),
                1,
                "{door:?}: {talk}"
            );
        }
        let stop = write(folder.path(), "stop.yaml", &format!("{yaml}on_error: stop\n"));
        let (_, talk, code) = generate(&stop, &[]);
        assert!(code == Some(1) && talk.contains("ARM \"grim\": its logits hold") && talk.contains(what), "{talk}");
        // An ARM without a weight is not asked.
        let (text, talk, _) = generate(&config, &["--weight", "grim=0", "--speculate", "off"]);
        assert!(text == expected && !talk.contains("guidance failed"), "{talk}");
    }
}

#[test]
fn a_base_whose_logits_are_no_numbers_ends_the_text_with_its_name() {
    let folder = folder();
    for (base, what) in [("nan.gguf", "NaN"), ("inf.gguf", "+inf")] {
        let yaml = format!("base: {{model: {base}}}\narms: {{kind: {{model: sound.gguf}}}}\n");
        let config = write(folder.path(), "base.yaml", &yaml);
        let alone = write(folder.path(), "alone.yaml", &format!("base: {{model: {base}}}\n"));
        for (config, door) in DOORS.map(|door| (&config, door)).into_iter().chain([(&alone, &[][..])]) {
            let (text, talk, code) = generate(config, door);
            assert!(code == Some(1) && text.trim().is_empty(), "{base}, {door:?}: {text} {talk}");
            assert!(talk.contains("base: its logits hold") && talk.contains(what), "{base}, {door:?}: {talk}");
            assert!(!talk.contains("ARM"), "{base}, {door:?}: {talk}");
        }
    }
}

#[test]
fn a_score_names_who_has_no_numbers() {
    let folder = folder();
    let run = |base: &str, arm: &str| {
        let at = |name: &str| folder.path().join(name).display().to_string();
        let arm = format!("grim={}:1", at(arm));
        binary::failure(&["score", "--base", &at(base), "--arm", &arm, "Once", " upon a time"]).0
    };
    assert!(run("base.gguf", "nan.gguf").contains("ARM \"grim\": its logits hold NaN"));
    let of_base = run("inf.gguf", "sound.gguf");
    assert!(of_base.contains("base: its logits hold +inf") && !of_base.contains("ARM"), "{of_base}");

    let (nan, base) = (support::load(&folder.path().join("nan.gguf")), support::load(&folder.path().join("base.gguf")));
    let prompts = ScoredPrompts::new(&[1], &[]);
    let none = || Guide::new(Vec::new(), Weights::new([]));
    let refused = score(&mut support::sequence(&nan), &mut none(), prompts, &[2, 3], &[]).expect_err("no numbers");
    assert!(refused.is_of_base() && matches!(refused.source, ExpertError::NotFinite { what: "NaN", .. }));
    score(&mut support::sequence(&base), &mut none(), prompts, &[2, 3], &[]).expect("numbers");
}

#[test]
fn a_request_for_probabilities_names_the_arm_too() {
    let folder = folder();
    let config = write(folder.path(), "arm.yaml", "base: {model: base.gguf}\narms: {grim: {model: nan.gguf}}\n");
    let (_, talk, code) = generate(&config, &["--json", "--logprobs", "2"]);
    assert!(code == Some(1) && talk.contains("ARM \"grim\": its logits hold NaN"), "{talk}");
}

#[test]
fn a_sweep_ends_with_the_name_of_the_arm_that_cannot_be_scored() {
    let folder = folder();
    let config = write(folder.path(), "arm.yaml", "base: {model: base.gguf}\narms: {grim: {model: nan.gguf}}\n");
    let prompts = write(folder.path(), "prompts.jsonl", "{\"prompt\": \"Once\"}\n");
    let out = folder.path().join("out.jsonl").display().to_string();
    let args = [
        "sweep",
        "-f",
        &config,
        "--prompts",
        &prompts,
        "-n",
        "4",
        "--grid",
        "grim=0,1",
        "--scorer",
        "plain",
        "--out",
        &out,
    ];
    let (talk, _) = binary::failure(&args);
    assert!(talk.contains("ARM \"grim\": its logits hold NaN"), "{talk}");
}

#[test]
fn a_text_that_came_out_as_nan_leaves_nothing_behind_for_the_next() {
    let folder = folder();
    // Only the token 100 is broken: a text with it has no numbers, and any other text has.
    let path = folder.path().join("base.gguf");
    random::poison(&path, "token_embd.weight", 64 * 100..64 * 101, f32::NAN);
    let model = support::load(&path);
    let sound: Vec<_> = (3..40).collect();
    let expected = support::sequence(&model).advance(&sound, 1).expect("a row").to_vec();
    assert!(expected.iter().all(|x| x.is_finite()));
    let mut sequence = support::sequence(&model);
    for _ in 0..2 {
        let broken = sequence.advance(&[1, 2, 100, 4, 5], 1).expect("a row");
        assert!(broken.iter().all(|x| x.is_nan()));
        let found = sequence.advance(&sound, 1).expect("a row");
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "NaN is still in memory");
    }
    let config =
        Config::parse(&format!("base: {{model: {}}}", path.display()), Path::new("c.yaml"), &Overrides::default());
    let mut session = Session::open(config.expect("a configuration"), &mut |_, _| true).expect("a session");
    let mut sampler = session.sampler(&support::open_params()).expect("a sampler");
    for (tokens, sound) in [(vec![1, 100], false), (vec![1, 5, 6], true)] {
        let prompt = session.token_prompt(tokens).expect("tokens");
        let text = session.generate(&mut sampler, &prompt, 1, &mut |_| genarm::decode::Flow::Continue);
        match text {
            Ok(_) => assert!(sound),
            Err(error) => {
                let expected = matches!(error, DecodeError::Base(ExpertError::NotFinite { what: "NaN", .. }));
                assert!(!sound && expected, "{error}");
            }
        }
    }
}

#[test]
fn a_server_answers_a_text_without_numbers_with_an_error_and_the_next_one_as_ever() {
    let folder = folder();
    let path = folder.path().join("base.gguf");
    let base = path.display().to_string();
    let sound = |server: &Serve| {
        let body = json!({"prompt": [1, 5, 6], "n_predict": 4, "temperature": 0});
        server.ok("/completion", &body)["content"].clone()
    };
    let expected = sound(&Serve::start(&["--base", &base, "--parallel", "1"]));
    random::poison(&path, "token_embd.weight", 64 * 100..64 * 101, f32::NAN);
    let server = Serve::start(&["--base", &base, "--parallel", "1"]);
    for _ in 0..2 {
        let (status, answer) = server.post("/completion", &json!({"prompt": [1, 100, 6], "n_predict": 4}));
        assert_eq!((status, &answer["error"]["type"]), (500, &json!("server_error")), "{answer}");
        assert_eq!(sound(&server), expected);
    }
    let named = || server.talk.lock().expect("a lock").contains("base: its logits hold NaN");
    for _ in 0..2000 {
        if named() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the log does not name the base");
}
