//! What is counted is counted, and what is freed is free, by the time that a client has its answer.

use serde_json::{Value, json};

use super::doors::{CHAT, Door, LLAMA, TEXT};
use super::{PROMPT, Serve};

/// Nothing runs, nothing waits.
fn is_idle(server: &Serve, what: &str) {
    let (_, health) = server.get("/health");
    assert_eq!((&health["running"], &health["waiting"]), (&json!(0), &json!(0)), "{what}");
    assert_eq!(server.metric("genarm_slots_busy"), 0.0, "{what}");
    assert_eq!(server.metric("genarm_queue_length"), 0.0, "{what}");
}

#[test]
fn an_answer_is_counted_and_its_lane_free_when_it_arrives() {
    let server = Serve::demo(&["--metrics", "--parallel", "2"]);
    let (mut tokens, mut prompts) = (0, 0);
    for round in 0..12 {
        for (path, stream) in [(TEXT, false), (TEXT, true), (CHAT, false), (CHAT, true), (LLAMA, false), (LLAMA, true)]
        {
            let body = json!({"prompt": PROMPT, "max_tokens": 1 + round % 3, "temperature": 0, "n": 1});
            tokens += Door { path, stream }.ask(&server, &body).n;
            let what = format!("{path}, stream {stream}, round {round}");
            assert_eq!(server.metric("genarm_generated_tokens_total"), tokens as f64, "{what}");
            prompts += 1;
            // A step may give several tokens.
            assert!(server.metric("genarm_step_seconds_count") >= f64::from(prompts), "{what}");
            assert_eq!(server.metric("genarm_first_token_seconds_count"), f64::from(prompts), "{what}");
            is_idle(&server, &what);
        }
    }
    assert_eq!(server.metric("genarm_http_requests_total{route=\"/completion\",status=\"200\"}"), 24.0);
}

#[test]
fn several_texts_of_one_request_are_all_counted_when_it_is_answered() {
    let server = Serve::demo(&["--metrics", "--parallel", "3"]);
    let mut tokens = 0;
    for seed in 0..10 {
        let body = json!({"prompt": PROMPT, "max_tokens": 3, "n": 5, "seed": seed});
        tokens += Door { path: TEXT, stream: seed % 2 == 0 }.ask(&server, &body).n;
        assert_eq!(server.metric("genarm_generated_tokens_total"), tokens as f64);
        is_idle(&server, "five texts");
    }
}

#[test]
fn a_text_that_ends_at_once_is_counted_too() {
    let server = Serve::demo(&["--metrics"]);
    // The grammar allows nothing, so that the first token ends the text.
    let body = json!({"prompt": PROMPT, "max_tokens": 4, "grammar": "root ::= \"\""});
    let answer = server.ok(TEXT, &body);
    assert_eq!((&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]), (&json!(""), &json!("stop")));
    assert_eq!(
        server.metric("genarm_prompt_tokens_total"),
        answer["usage"]["prompt_tokens"].as_f64().expect("a number")
    );
}

#[test]
fn a_request_that_fails_or_scores_leaves_nothing_running() {
    let server = Serve::demo(&["--metrics", "--parallel", "2"]);
    let long = "Lily ran. ".repeat(400);
    let failing: [(&str, Value); 4] = [
        (TEXT, json!({"prompt": long})),
        (TEXT, json!({"prompt": "x", "logit_bias": {"99999": 1}})),
        ("/v1/score", json!({"prompt": long, "response": "x"})),
        ("/v1/score", json!({"prompt": "x", "response": long})),
    ];
    for _ in 0..12 {
        for (path, body) in &failing {
            assert_eq!(server.post(path, body).0, 400);
            is_idle(&server, path);
        }
        server.ok("/v1/score", &json!({"prompt": PROMPT, "response": " She ran."}));
        is_idle(&server, "a score");
    }
}
