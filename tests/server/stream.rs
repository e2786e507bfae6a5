//! Streams, read by a client for server-sent events.

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{PROMPT, Serve};

/// The events of a stream, until its end; `[DONE]` as null.
pub async fn events(url: String, body: Value) -> Vec<Value> {
    let response = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream().eventsource();
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        let data = event.expect("an event").data;
        events.push(if data == "[DONE]" { Value::Null } else { serde_json::from_str(&data).expect("JSON") });
    }
    events
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn the_chunks_of_a_chat_add_up_to_the_whole() {
    let server = Serve::demo(&[]);
    let mut body = json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20, "temperature": 0, "return_rewards": true});
    let whole = server.ok("/v1/chat/completions", &body);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let events = runtime().block_on(events(server.url("/v1/chat/completions"), body));
    assert_eq!(events.last(), Some(&Value::Null), "the last event is [DONE]");
    let chunks = &events[..events.len() - 1];
    assert!(chunks.iter().all(|c| c["object"] == "chat.completion.chunk" && c["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[0]["genarm"]["weights"]["cheerful"], 1.0);
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().expect("a text"));
    let rewards = chunks.iter().filter(|c| c["choices"][0]["rewards"][0]["arms"]["plain"].is_number()).count();
    assert_eq!(rewards, 20);
    let usage = chunks.last().expect("a chunk");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(20)));
    let finish = &chunks[chunks.len() - 2];
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert!(finish["genarm"]["timings"]["tokens_per_second"].as_f64().expect("a number") > 0.0);
}

#[test]
fn several_texts_of_one_stream_keep_their_numbers() {
    let server = Serve::demo(&[]);
    let body = json!({"prompt": PROMPT, "n": 3, "max_tokens": 8, "temperature": 1, "seed": 5, "stream": true});
    let events = runtime().block_on(events(server.url("/v1/completions"), body));
    for index in 0..3 {
        let of = |c: &&Value| c["choices"][0]["index"] == index;
        let finished = events.iter().filter(of).filter(|c| c["choices"][0]["finish_reason"].is_string()).count();
        assert_eq!(finished, 1);
    }
}

#[test]
fn llama_cpp_streams_end_with_stop() {
    let server = Serve::demo(&[]);
    let body = json!({"prompt": PROMPT, "n_predict": 6, "temperature": 0, "stream": true});
    let events = runtime().block_on(events(server.url("/completion"), body));
    let text: String = events.iter().filter_map(|c| c["content"].as_str()).collect();
    assert_eq!(text, server.greedy(PROMPT, 6, &json!({})));
    assert_eq!(events.last().map(|c| &c["stop"]), Some(&json!(true)));
}

#[test]
fn an_error_before_the_first_token_is_a_status_also_in_a_stream() {
    let server = Serve::demo(&[]);
    let long = "Lily ran. ".repeat(400);
    assert_eq!(server.post("/v1/completions", &json!({"prompt": long, "stream": true})).0, 400);
}
