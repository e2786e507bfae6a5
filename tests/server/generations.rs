//! Weights that change while an answer is being written, and the same changes made again.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::bytes::with;
use super::doors::{CHAT, LLAMA, TEXT};
use super::isolation::same;
use super::{PROMPT, Serve, answer, client, text_of};

/// A streamed answer, read as slowly as the test likes.
struct Streamed {
    lines: std::io::Lines<BufReader<reqwest::blocking::Response>>,
    id: String,
    chunks: Vec<Value>,
}

impl Streamed {
    fn start(server: &Serve, path: &str, body: &Value) -> Self {
        let body = with(body.clone(), &json!({"stream": true}));
        let response = client().post(server.url(path)).json(&body).send().expect("an answer");
        assert_eq!(response.status(), 200, "{body}");
        let mut streamed = Self { lines: BufReader::new(response).lines(), id: String::new(), chunks: Vec::new() };
        streamed.next().expect("a chunk");
        streamed.id = streamed.chunks[0]["id"].as_str().expect("an id").to_owned();
        streamed
    }

    fn next(&mut self) -> Option<()> {
        loop {
            let line = self.lines.next()?.expect("a line");
            match line.strip_prefix("data:").map(str::trim) {
                Some("[DONE]") => return None,
                Some(data) => {
                    self.chunks.push(serde_json::from_str(data).expect("JSON"));
                    return Some(());
                }
                None => {}
            }
        }
    }

    /// Reads to the end.
    fn rest(mut self) -> Vec<Value> {
        while self.next().is_some() {}
        self.chunks
    }
}

fn patch(server: &Serve, id: &str, body: &Value) -> (u16, Value) {
    answer(client().patch(server.url(&format!("/v1/generations/{id}"))).json(body))
}

/// An answer whose weights were changed while it was written: its chunks, and what the change returned. A fast machine
/// may be through before the change arrives, so this tries again.
fn changed(server: &Serve, path: &str, body: &Value, change: &Value) -> (Vec<Value>, Value) {
    for _ in 0..50 {
        let streamed = Streamed::start(server, path, body);
        let (status, answer) = patch(server, &streamed.id, change);
        let chunks = streamed.rest();
        match status {
            200 => return (chunks, answer),
            404 => {}
            _ => panic!("{status} {answer}"),
        }
    }
    panic!("all answers were over before they were changed");
}

/// The chunks of a completion as a whole answer.
fn whole(chunks: &[Value]) -> Value {
    let (mut text, mut tokens, mut top, mut rewards) = (String::new(), vec![], vec![], vec![]);
    for choice in chunks.iter().map(|chunk| &chunk["choices"][0]) {
        text += choice["text"].as_str().unwrap_or_default();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        tokens.extend(list(&choice["logprobs"]["tokens"]));
        top.extend(list(&choice["logprobs"]["top_logprobs"]));
        rewards.extend(list(&choice["rewards"]));
    }
    let choice = json!({"text": text, "rewards": rewards, "logprobs": {"tokens": tokens, "top_logprobs": top}});
    json!({"choices": [choice], "genarm": last(chunks)["genarm"]})
}

/// The chunk that ends the text.
fn last(chunks: &[Value]) -> &Value {
    let ends = |chunk: &&Value| chunk["choices"][0]["finish_reason"].is_string() || chunk["stop"] == true;
    chunks.iter().find(ends).unwrap_or_else(|| panic!("an end: {chunks:?}"))
}

/// The token of the only change in a log.
fn position(log: &Value) -> usize {
    assert_eq!((log.as_array().map(Vec::len), &log[0]["token"]), (Some(2), &json!(0)), "{log}");
    usize::try_from(log[1]["token"].as_u64().expect("a token")).expect("a small number")
}

/// A long text that begins under no ARM. With a seed its prompt is read anew, and its tokens come one by one.
fn long() -> Value {
    json!({"prompt": PROMPT, "max_tokens": 450, "ignore_eos": true, "temperature": 0, "seed": 3, "return_rewards": true, "logprobs": 2,
        "preferences": {"cheerful": 0, "talkative": 0, "plain": 0}})
}

fn rewards(answer: &Value) -> Vec<Value> {
    answer["choices"][0]["rewards"].as_array().expect("rewards").clone()
}

#[test]
fn a_running_answer_changes_at_the_token_that_the_change_names() {
    let server = Serve::demo(&["--parallel", "1"]);
    let before = server.ok(TEXT, &long());
    assert!(before["genarm"].get("weights_log").is_none(), "nothing has changed");
    let (chunks, said) = changed(&server, TEXT, &long(), &json!({"preferences": {"cheerful": 3}}));
    let found = whole(&chunks);
    let log = &found["genarm"]["weights_log"];
    let at = position(log);
    let weights = |cheerful: f64| json!({"cheerful": cheerful, "talkative": 0.0, "plain": 0.0});
    assert_eq!((&log[0]["weights"], &log[1]["weights"]), (&weights(0.0), &weights(3.0)));
    assert_eq!((&said["weights"], &said["choices"]), (&weights(3.0), &json!([{"index": 0, "token": at}])));
    assert!(at < 450, "in mid-text: {at}");
    let (a, b) = (rewards(&before), rewards(&found));
    assert_eq!(a[..at], b[..at], "every number, to the last digit");
    // The histories are the same up to there, and the base's numbers with them; guidance is not.
    assert!(a[at]["kl"] == json!(0.0) && b[at]["kl"].as_f64() > Some(0.0), "{at}: {} {}", a[at], b[at]);
    assert!(b[..at].iter().all(|reward| reward["guided"] == reward["base"]));
    assert!(b[at..].iter().all(|reward| reward["guided"] != reward["base"]));
}

#[test]
fn a_log_gives_the_same_text_again() {
    // Beside other processes there would be fewer threads, and flash attention over a long text adds in another order then.
    let server = Serve::demo(&["--parallel", "1", "--threads", "2"]);
    for temperature in [0, 1] {
        let body = with(long(), &json!({"temperature": temperature}));
        let (chunks, _) = changed(&server, TEXT, &body, &json!({"profile": "chatty", "preferences": {"cheerful": 2}}));
        let found = whole(&chunks);
        let log = &found["genarm"]["weights_log"];
        assert!(position(log) < 450);
        let again = server.ok(TEXT, &with(body, &json!({"weights_log": log})));
        assert_eq!(rewards(&again), rewards(&found), "every number, to the last digit");
        assert_eq!((text_of(&again), &again["genarm"]["weights_log"]), (text_of(&found), log));
    }
    // Several changes by hand, the first of them at the beginning.
    let log = json!([{"token": 0, "weights": {"cheerful": 1}}, {"token": 5, "weights": {"plain": 1}}, {"token": 6, "weights": {"plain": 0}}]);
    let answer = server.ok(TEXT, &with(long(), &json!({"weights_log": log, "max_tokens": 9})));
    let tokens = answer["genarm"]["weights_log"].as_array().expect("a log").iter().map(|change| &change["token"]);
    assert_eq!(tokens.collect::<Vec<_>>(), [0, 5, 6]);
    assert_eq!(
        (&answer["genarm"]["weights"]["cheerful"], &answer["genarm"]["weights"]["plain"]),
        (&json!(1.0), &json!(0.0))
    );
}

#[test]
fn weights_change_between_drafts_and_never_within_one() {
    let start = |speculate| Serve::demo(&["--parallel", "1", "--speculate", speculate]);
    let (drafting, plain) = (start("backbone"), start("off"));
    let mut body = with(long(), &json!({"preferences": {"plain": 0.5}, "max_tokens": 300}));
    body.as_object_mut().expect("an object").remove("seed");
    let (chunks, _) = changed(&drafting, TEXT, &body, &json!({"preferences": {"talkative": 1.5}}));
    let found = whole(&chunks);
    assert!(found["genarm"]["timings"]["drafted"].as_u64() > Some(0));
    let log = &found["genarm"]["weights_log"];
    let replayed = with(body.clone(), &json!({"weights_log": log}));
    let expected = plain.ok(TEXT, &replayed);
    same(&found, &expected);
    for at in 1..12 {
        let log = json!([{"token": at, "weights": {"talkative": 1.5}}, {"token": at + 3, "weights": {"cheerful": -1}}]);
        let body = with(body.clone(), &json!({"weights_log": log, "max_tokens": 24}));
        let (found, expected) = (drafting.ok(TEXT, &body), plain.ok(TEXT, &body));
        assert_eq!(found["genarm"]["weights_log"], expected["genarm"]["weights_log"]);
        assert_eq!(found["genarm"]["weights_log"][1]["token"], at);
        same(&found, &expected);
    }
}

#[test]
fn one_of_eight_streams_changes_and_the_others_stay_as_they_were() {
    let server = Serve::demo(&["--parallel", "8"]);
    let body = |i: usize| {
        let opening = ["Once upon a time,", "Tom had a red ball.", "The cat was", "One day, Lily saw"][i % 4];
        with(
            long(),
            &json!({"prompt": format!("{opening} {i}"), "preferences": {"plain": 0.5}, "return_rewards": false, "max_tokens": 150}),
        )
    };
    let alone: Vec<_> = (0..8).map(|i| server.ok(TEXT, &body(i))).collect();
    let found: Vec<(usize, Value)> = std::thread::scope(|scope| {
        let server = &server;
        let others = (0..7).map(|i| scope.spawn(move || (i, whole(&Streamed::start(server, TEXT, &body(i)).rest()))));
        let others: Vec<_> = others.collect();
        let (chunks, _) = changed(server, TEXT, &body(7), &json!({"preferences": {"cheerful": 2, "talkative": 1}}));
        let others = others.into_iter().map(|thread| thread.join().expect("an answer"));
        others.chain([(7, whole(&chunks))]).collect()
    });
    for (i, answer) in &found[..7] {
        same(answer, &alone[*i]);
        assert!(answer["genarm"].get("weights_log").is_none());
    }
    let one = &found[7].1;
    assert_ne!(text_of(one), text_of(&alone[7]));
    same(&server.ok(TEXT, &with(body(7), &json!({"weights_log": one["genarm"]["weights_log"]}))), one);
}

#[test]
fn every_route_and_every_text_of_an_answer_can_be_changed() {
    let server = Serve::demo(&["--parallel", "2"]);
    let persona = json!({"personas": [{"name": "merry", "system": "Everyone laughs.", "weight": 0}]});
    let change = json!({"preferences": {"merry": 1, "plain": -0.5}});
    for (path, body) in [
        (TEXT, json!({"prompt": PROMPT, "n": 2, "max_tokens": 400, "ignore_eos": true})),
        (CHAT, json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 400, "ignore_eos": true})),
        (LLAMA, json!({"prompt": PROMPT, "n_predict": 400, "ignore_eos": true})),
    ] {
        let (chunks, said) = changed(&server, path, &with(body, &persona), &change);
        assert_eq!((&said["weights"]["merry"], &said["weights"]["plain"]), (&json!(1.0), &json!(-0.5)), "{path}");
        for choice in said["choices"].as_array().expect("choices") {
            let ends = |chunk: &&Value| {
                let index = chunk["choices"][0].get("index").unwrap_or(&chunk["index"]);
                index == &choice["index"] && (chunk["choices"][0]["finish_reason"].is_string() || chunk["stop"] == true)
            };
            let log = &chunks.iter().find(ends).expect("an end")["genarm"]["weights_log"];
            let change = log.as_array().and_then(|log| log.last()).expect("a change");
            assert_eq!(
                (&change["token"], &change["weights"]["merry"]),
                (&choice["token"], &json!(1.0)),
                "{path} {log}"
            );
        }
    }
}

#[test]
fn only_the_id_of_a_running_answer_can_be_changed_and_only_rightly() {
    let server = Serve::demo(&["--parallel", "1", "--cors-origin", "http://friend.example"]);
    let good = json!({"preferences": {"cheerful": 1}});
    for id in ["cmpl-00000000000000000000000000000000", "x", "cmpl-"] {
        let (status, answer) = patch(&server, id, &good);
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "{answer}");
    }
    let over = server.ok(TEXT, &json!({"prompt": PROMPT, "max_tokens": 2}))["id"].as_str().expect("an id").to_owned();
    assert!(over.len() >= "cmpl-".len() + 32, "128 bits: {over}");
    assert_eq!(patch(&server, &over, &good).0, 404);
    let streamed = Streamed::start(&server, TEXT, &with(long(), &json!({"max_tokens": 3})));
    let id = streamed.id.clone();
    streamed.rest();
    assert_eq!(patch(&server, &id, &good).0, 404, "over");
    let dropped = Streamed::start(&server, TEXT, &long()).id;
    server.settle();
    assert_eq!(patch(&server, &dropped, &good).0, 404, "the client has gone");

    for (wrong, param) in [
        (json!({"preferences": {"cheerfull": 1}}), "preferences.cheerfull"),
        (json!({"preferences": {"cheerful": 101}}), "preferences.cheerful"),
        (json!({"preferences": {"persona 1": 1}}), "preferences.persona 1"),
        (json!({"profile": "hapy"}), "profile"),
        (json!({"weights": {}}), "weights"),
        (json!({"preferences": 3}), "preferences"),
    ] {
        let refused = (0..50).find_map(|_| {
            let streamed = Streamed::start(&server, TEXT, &with(long(), &json!({"max_tokens": 120})));
            let (status, answer) = patch(&server, &streamed.id, &wrong);
            let chunks = streamed.rest();
            assert!(last(&chunks)["genarm"].get("weights_log").is_none(), "a wrong change changes nothing");
            (status != 404).then_some((status, answer))
        });
        let (status, answer) = refused.expect("an answer that runs");
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
    let log = json!({"weights_log": [{"token": 1, "weights": {"plain": 1}}]});
    let refused = (0..50).map(|_| patch(&server, &Streamed::start(&server, TEXT, &with(long(), &log)).id, &good));
    let (status, answer) = refused.into_iter().find(|(status, _)| *status != 404).expect("an answer that runs");
    assert!(
        status == 400 && answer["error"]["message"].as_str().is_some_and(|m| m.contains("weights_log")),
        "{answer}"
    );

    let preflight = client()
        .request(reqwest::Method::OPTIONS, server.url("/v1/generations/x"))
        .header("origin", "http://friend.example")
        .header("access-control-request-method", "PATCH");
    let response = preflight.send().expect("an answer");
    assert!(response.headers()["access-control-allow-methods"].to_str().expect("a text").contains("PATCH"));
}

#[test]
fn a_wrong_log_is_named() {
    let server = Serve::demo(&[]);
    for (log, param) in [
        (json!({}), "weights_log"),
        (json!([3]), "weights_log[0]"),
        (json!([{"weights": {}}]), "weights_log[0].token"),
        (json!([{"token": 1}]), "weights_log[0].weights"),
        (json!([{"token": -1, "weights": {}}]), "weights_log[0].token"),
        (json!([{"token": 2, "weights": {}}, {"token": 2, "weights": {}}]), "weights_log[1].token"),
        (json!([{"token": 2, "weights": {"cheerfull": 1}}]), "weights_log[0].weights.cheerfull"),
        (json!([{"token": 2, "weights": {"cheerful": 101}}]), "weights_log[0].weights.cheerful"),
        (json!([{"token": 2, "weights": {}, "x": 1}]), "weights_log[0].x"),
    ] {
        let (status, answer) = server.post(TEXT, &json!({"prompt": "x", "max_tokens": 1, "weights_log": log}));
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{log}: {answer}");
    }
}
