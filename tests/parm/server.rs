//! Preferences of requests: each text has its own, also beside others in one batch.

use serde_json::{Value, json};

use super::Folder;
use crate::server::{Serve, text_of};

const PROMPT: &str = "Once upon a time";

fn body(preferences: &Value) -> Value {
    json!({"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "ignore_eos": true, "preferences": preferences})
}

impl Folder {
    pub fn serve(&self, args: &[&str]) -> Serve {
        let arms = "taste: {lora: parm.gguf, weight: 2, preferences: {helpful: 1}}";
        let config = self.write(arms, "share_batch: \"on\"\nprofiles: {safe: {taste.helpful: 0, taste.harmless: 1}}");
        Serve::start(&[&["--config", config.to_str().expect("a path")], args].concat())
    }
}

#[test]
fn requests_have_preferences_of_their_own_in_one_batch_and_one_after_the_other() {
    let folder = Folder::new();
    let one = folder.serve(&["--parallel", "1"]);
    let asked = [
        json!({}),
        json!({"taste.helpful": 0, "taste.harmless": 1}),
        json!({"taste.helpful": 0.5, "taste.harmless": 0.5}),
        json!({"taste.harmless": 1}),
    ];
    let texts: Vec<_> =
        asked.iter().map(|preferences| text_of(&one.ok("/v1/completions", &body(preferences)))).collect();
    assert!(texts[0] != texts[1] && texts[0] != texts[2] && texts[1] != texts[2], "{texts:?}");
    for (preferences, text) in asked.iter().zip(&texts).rev() {
        assert_eq!(
            text_of(&one.ok("/v1/completions", &body(preferences))),
            *text,
            "the slot's last text does not matter"
        );
    }
    // All at once, in one batch.
    let four = folder.serve(&["--parallel", "4"]);
    let found: Vec<_> = std::thread::scope(|scope| {
        let four = &four;
        let ask = |preferences| scope.spawn(move || text_of(&four.ok("/v1/completions", &body(preferences))));
        let running: Vec<_> = asked.iter().map(ask).collect();
        running.into_iter().map(|one| one.join().expect("a text")).collect()
    });
    assert_eq!(found, texts);
    let answer = four.ok("/v1/completions", &body(&asked[3]));
    assert_eq!(answer["genarm"]["weights"], json!({"taste": 2.0, "taste.helpful": 1.0, "taste.harmless": 1.0}));
    let profile = json!({"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "ignore_eos": true, "profile": "safe"});
    assert_eq!(text_of(&four.ok("/v1/completions", &profile)), texts[1]);
}

#[test]
fn a_score_is_that_of_its_own_preferences() {
    let folder = Folder::new();
    let server = folder.serve(&["--parallel", "1"]);
    let score = |preferences: Value| {
        let body = json!({"prompt": PROMPT, "response": " there was a dog.", "preferences": preferences});
        server.ok("/v1/score", &body)["totals"]["arms"]["taste"].as_f64().expect("a reward")
    };
    let [helpful, harmless] = [json!({}), json!({"taste.helpful": 0, "taste.harmless": 1})];
    let (first, second) = (score(helpful.clone()), score(harmless.clone()));
    assert!((first - second).abs() > 0.1, "{first} and {second}");
    assert!((score(helpful) - first).abs() < 1e-3 && (score(harmless) - second).abs() < 1e-3);
}

#[test]
fn a_duel_gives_each_objective_the_reward_of_the_arm_under_it_alone() {
    let folder = Folder::new();
    let server = folder.serve(&["--parallel", "2"]);
    let body = json!({"prompt": PROMPT, "max_tokens": 8, "temperature": 1, "ignore_eos": true, "seed": 4});
    let reply = server.ok("/v1/duel", &body);
    let names: Vec<_> = reply["estimate"]["objectives"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|of| of["name"].as_str())
        .collect();
    assert_eq!((names, &reply["estimate"]["strength"]), (vec!["taste.helpful", "taste.harmless"], &json!(2.0)));
    let of = |value: &Value| value.as_f64().expect("a number");
    for answer in reply["answers"].as_array().expect("answers") {
        for (name, alone) in [("taste.helpful", [1, 0]), ("taste.harmless", [0, 1])] {
            let preferences = json!({"taste.helpful": alone[0], "taste.harmless": alone[1]});
            let score = json!({"prompt": PROMPT, "response": answer["text"], "preferences": preferences});
            let totals = server.ok("/v1/score", &score)["totals"].clone();
            let mean = (of(&totals["arms"]["taste"]) - of(&totals["base"])) / of(&totals["n_tokens"]);
            assert!((of(&answer["rewards"][name]) - mean).abs() < 1e-2, "{name}: {answer} {mean}");
        }
        let sum = of(&answer["weights"]["taste.helpful"]) + of(&answer["weights"]["taste.harmless"]);
        assert!((sum - 1.0).abs() < 0.01 && of(&answer["weights"]["taste"]) <= 2.0, "{answer}");
    }
    assert!(
        (of(&reply["answers"][0]["rewards"]["taste.helpful"]) - of(&reply["answers"][0]["rewards"]["taste.harmless"]))
            .abs()
            > 1e-3,
        "{reply}"
    );
}

#[test]
fn a_log_of_changes_replays_preferences_too() {
    let folder = Folder::new();
    let server = folder.serve(&["--parallel", "2", "--max-personas", "1"]);
    let plain = text_of(&server.ok("/v1/completions", &body(&json!({}))));
    let mut logged = body(&json!({}));
    logged["weights_log"] = json!([{"token": 0, "weights": {"taste.helpful": 1}}, {"token": 6, "weights": {"taste.helpful": 0, "taste.harmless": 1}}]);
    let answer = server.ok("/v1/completions", &logged);
    assert_ne!(text_of(&answer), plain);
    assert_eq!(text_of(&answer)[..8], plain[..8]);
    let log = answer["genarm"]["weights_log"].clone();
    assert_eq!(log[1], json!({"token": 6, "weights": {"taste": 2.0, "taste.helpful": 0.0, "taste.harmless": 1.0}}));
    logged["weights_log"] = log;
    assert_eq!(text_of(&server.ok("/v1/completions", &logged)), text_of(&answer));
    // A persona of the request comes between weights and preferences.
    let mut with_persona = body(&json!({"taste.helpful": 0, "taste.harmless": 1}));
    let expected = text_of(&server.ok("/v1/completions", &with_persona));
    with_persona["personas"] = json!([{"name": "kind", "system": "Be kind.", "weight": 0}]);
    let answer = server.ok("/v1/completions", &with_persona);
    assert_eq!(text_of(&answer), expected);
    assert_eq!(
        answer["genarm"]["weights"],
        json!({"taste": 2.0, "kind": 0.0, "taste.helpful": 0.0, "taste.harmless": 1.0})
    );
}

#[test]
fn preferences_are_listed_with_their_range_and_refused_outside_of_it() {
    let folder = Folder::new();
    let server = folder.serve(&["--parallel", "1"]);
    let (_, listed) = server.get("/v1/preferences");
    let helpful = json!({"objective": "helpful", "value": 1.0, "range": [0.0, 1.0]});
    assert_eq!(listed["arms"][0]["preferences"][0], helpful);
    assert_eq!(listed["profiles"]["safe"], json!({"taste": 2.0, "taste.helpful": 0.0, "taste.harmless": 1.0}));
    for (preferences, words) in [
        (json!({"taste.helpful": 1.5}), "preferences.taste.helpful must be between 0 and 1, got 1.5"),
        (json!({"taste.harmles": 1}), "did you mean \"taste.harmless\"?"),
        (json!({"helpful": 1}), "unknown ARM \"helpful\""),
    ] {
        let (status, answer) = server.post("/v1/completions", &body(&preferences));
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(status == 400 && message.contains(words), "{message}");
    }
}
