//! `POST /v1/duel`: what choices say of the weights, and the next two answers.

use serde_json::{Value, json};

use super::{PROMPT, Serve};

/// A request for two answers.
fn asked(choices: &Value) -> Value {
    json!({"prompt": PROMPT, "choices": choices, "seed": 3, "max_tokens": 16, "temperature": 1, "answers": 4})
}

/// A choice between the answers of a reply.
fn choice(reply: &Value, chosen: usize) -> Value {
    json!({"chosen_rewards": reply["answers"][chosen]["rewards"], "rejected_rewards": reply["answers"][1 - chosen]["rewards"]})
}

#[test]
fn two_answers_come_back_with_the_weights_and_rewards_that_a_score_finds() {
    let server = Serve::demo(&["--parallel", "4"]);
    let reply = server.ok("/v1/duel", &asked(&json!([])));
    let answers = reply["answers"].as_array().expect("answers");
    assert_eq!((answers.len(), &reply["seed"], &reply["estimate"]["n_choices"]), (2, &json!(3), &json!(0)));
    assert_ne!(answers[0]["text"], answers[1]["text"]);
    for answer in answers {
        assert_eq!(answer["finish_reason"], "length");
        let sum: f64 =
            answer["weights"].as_object().expect("weights").values().map(|w| w.as_f64().expect("a number")).sum();
        assert!((0.0..=1.01).contains(&sum), "within the strength of the configuration: {answer}");
        let score = server.ok("/v1/score", &json!({"prompt": PROMPT, "response": answer["text"]}));
        for (arm, reward) in answer["rewards"].as_object().expect("rewards") {
            let of = |value: &Value| value.as_f64().expect("a number");
            let mean =
                (of(&score["totals"]["arms"][arm]) - of(&score["totals"]["base"])) / of(&score["totals"]["n_tokens"]);
            assert!((of(reward) - mean).abs() < 0.05, "{arm}: {reward} {mean}");
        }
    }
    let again = server.ok("/v1/duel", &asked(&json!([])));
    let texts = |reply: &Value| [0, 1].map(|i| reply["answers"][i]["text"].clone());
    assert_eq!(texts(&again), texts(&reply), "a seed gives the same answers");
}

#[test]
fn choices_in_the_request_are_all_that_is_known() {
    let server = Serve::demo(&["--parallel", "4"]);
    let mut choices = Vec::new();
    for _ in 0..4 {
        let reply = server.ok("/v1/duel", &asked(&json!(choices)));
        let reward = |i: usize| reply["answers"][i]["rewards"]["cheerful"].as_f64().expect("a reward");
        choices.push(choice(&reply, usize::from(reward(1) > reward(0))));
    }
    // Without a prompt no text is made.
    let known = server.ok("/v1/duel", &json!({"choices": choices, "preferences": {"cheerful": -0.5, "plain": 1.5}}));
    let estimate = &known["estimate"];
    assert_eq!((known.get("answers"), &estimate["n_choices"], &estimate["strength"]), (None, &json!(4), &json!(2.0)));
    assert!(
        estimate["objectives"][0]["theta"].as_f64() > Some(0.0)
            && estimate["objectives"][0]["weight_error"].as_f64() > Some(0.0),
        "{known}"
    );
    // Half as much of everything.
    let half = server.ok("/v1/duel", &json!({"choices": choices, "strength": 1}));
    let weight = |reply: &Value| reply["estimate"]["objectives"][0]["weight"].as_f64().expect("a weight");
    assert!((weight(&half) * 2.0 - weight(&known)).abs() < 1e-9);
    // Chosen the other way round, θ points the other way.
    let turned = |choice: &Value| json!({"chosen_rewards": choice["rejected_rewards"], "rejected_rewards": choice["chosen_rewards"]});
    let turned = server.ok("/v1/duel", &json!({"choices": choices.iter().map(turned).collect::<Vec<_>>()}));
    let theta = |reply: &Value| reply["estimate"]["objectives"][0]["theta"].as_f64().expect("a number");
    assert!((theta(&turned) + theta(&known)).abs() < 1e-6);
    // A persona is an objective, too.
    let server = Serve::demo(&["--parallel", "2", "--max-personas", "1"]);
    let persona = json!([{"name": "pirate", "system": "You are a pirate."}]);
    let reply = server.ok("/v1/duel", &json!({"prompt": PROMPT, "max_tokens": 8, "personas": persona}));
    assert_eq!(reply["estimate"]["objectives"][3]["name"], "pirate", "{reply}");
    assert!(reply["answers"][0]["rewards"]["pirate"].is_number(), "{reply}");
}

#[test]
fn a_wrong_field_of_a_duel_is_named() {
    let server = Serve::demo(&[]);
    let rewards = json!({"cheerful": 0, "talkative": 0, "plain": 0});
    let one = |chosen: Value| json!({"choices": [{"chosen_rewards": chosen, "rejected_rewards": rewards}]});
    for (body, param, words) in [
        (json!({"answers": 1}), "answers", "between 2 and 16"),
        (json!({"strength": 0}), "strength", "above 0"),
        (json!({"strength": -1}), "strength", "above 0"),
        (json!({"max_tokens": 0}), "max_tokens", "at least 1"),
        (json!({"choices": 5}), "choices", "a list of choices"),
        (json!({"choices": [{}]}), "choices[0].chosen_rewards", "is missing"),
        (one(json!({"cheerful": "x"})), "choices[0].chosen_rewards.cheerful", "a number"),
        (one(json!({"cheerful": 1})), "choices[0]", "rewards of other objectives"),
        (one(json!({"cheerful": 1, "talkative": 1, "plane": 1})), "choices[0]", "no reward of plain"),
        (json!({"choices": vec![json!({}); 1001]}), "choices", "1000 items"),
        (json!({"prompt": "x", "messages": []}), "messages", "give one of them"),
        (json!({"prompt": "x", "temperature": -1}), "temperature", "temperature"),
        (json!({"prompt": "x", "stream": true}), "stream", "unknown field"),
    ] {
        let (status, answer) = server.post("/v1/duel", &body);
        let error = &answer["error"];
        assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{body}: {answer}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{body}: {answer}");
    }
}
