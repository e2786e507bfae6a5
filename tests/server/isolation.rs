//! Texts that are generated together do not know of each other.

use serde_json::{Value, json};

use super::{Serve, client, text_of};

/// What the likeliest two tokens may differ by, in nats, where a text generated beside others departs from the same
/// text generated alone: sums over a batch of several rows are rounded otherwise than over one (docs/server.md).
pub const NEAR_TIE: f64 = 0.05;

/// Requests that differ in everything.
pub fn requests() -> Vec<Value> {
    let openings = ["Once upon a time,", "Tom had a red ball.", "The cat was", "One day, Lily saw"];
    let request = |i: usize| {
        json!({
            "prompt": format!("{} {}", openings[i % 4], "It was a sunny day. ".repeat(i % 5)),
            "max_tokens": 20 + 3 * (i % 7),
            "temperature": 0,
            "seed": i,
            "logprobs": 2,
            "preferences": {"cheerful": (i % 3) as f64 - 0.5, "talkative": 0.3 * (i % 4) as f64, "plain": 0.5 * (i % 2) as f64},
        })
    };
    (0..16).map(request).collect()
}

/// Checks that `found` is `expected`, or departs from it at a near tie.
pub fn same(found: &Value, expected: &Value) {
    let (a, b) = (text_of(found), text_of(expected));
    if a == b {
        return;
    }
    let tokens = |v: &Value| v["choices"][0]["logprobs"]["tokens"].as_array().expect("tokens").clone();
    let at = tokens(found).iter().zip(&tokens(expected)).position(|(a, b)| a != b).expect("one of them is longer");
    let top = expected["choices"][0]["logprobs"]["top_logprobs"][at].as_object().expect("two tokens").clone();
    let mut values: Vec<_> = top.values().filter_map(Value::as_f64).collect();
    values.sort_by(f64::total_cmp);
    let gap = values[values.len() - 1] - values[0];
    assert!(gap < NEAR_TIE, "token {at} differs though {gap} nats lie between the likeliest: {a:?} {b:?}");
}

#[test]
fn sixteen_requests_at_once_give_what_each_gives_alone() {
    let server = Serve::demo(&["--parallel", "16"]);
    let alone: Vec<_> = requests().iter().map(|body| server.ok("/v1/completions", body)).collect();
    let url = server.url("/v1/completions");
    let together: Vec<_> = std::thread::scope(|scope| {
        let ask = |body: Value| {
            let url = url.clone();
            scope
                .spawn(move || client().post(url).json(&body).send().expect("an answer").json::<Value>().expect("JSON"))
        };
        let asked: Vec<_> = requests().into_iter().map(ask).collect();
        asked.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    together.iter().zip(&alone).for_each(|(found, expected)| same(found, expected));
    let texts: std::collections::HashSet<_> = alone.iter().map(text_of).collect();
    assert!(texts.len() > 10, "the requests are too much alike to tell them apart");
}

#[test]
fn a_long_prompt_is_read_beside_a_text_that_goes_on() {
    let server = Serve::demo(&["--parallel", "2"]);
    let long = "It was a sunny day and the birds were happy. ".repeat(38);
    let expected = server.greedy(&long, 8, &json!({"plain": 0.5, "talkative": 0.5}));
    let running = server.url("/v1/completions");
    let other = std::thread::spawn(move || {
        let body = json!({"prompt": "Tom", "max_tokens": 400, "ignore_eos": true, "temperature": 0});
        text_of(&client().post(running).json(&body).send().expect("an answer").json().expect("JSON"))
    });
    // Another beginning, so that nothing is cached.
    let late = server.greedy(&format!("Well. {long}"), 8, &json!({"plain": 0.5, "talkative": 0.5}));
    assert!(!other.join().expect("a text").is_empty());
    assert!(!late.is_empty());
    assert_eq!(server.greedy(&long, 8, &json!({"plain": 0.5, "talkative": 0.5})), expected);
}
