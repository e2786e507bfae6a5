//! The ways to ask for a text: three routes, each whole or in chunks. One answer, whichever way it came.

use serde_json::{Value, json};

use super::Serve;
use super::stream::{events, runtime};

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    pub path: &'static str,
    pub stream: bool,
}

pub const CHAT: &str = "/v1/chat/completions";
pub const TEXT: &str = "/v1/completions";
pub const LLAMA: &str = "/completion";

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub text: String,
    pub finish: String,
    /// The names of the tokens, where log-probabilities were wanted.
    pub names: Vec<String>,
    /// Their bytes in the text.
    pub bytes: Vec<Vec<u8>>,
    /// Their log-probabilities.
    pub logprobs: Vec<f64>,
    /// The names of the likeliest tokens.
    pub top: Vec<Vec<String>>,
    /// Where they begin.
    pub offsets: Vec<u64>,
    /// Their ids, where the route lists them.
    pub ids: Vec<u64>,
    /// The rewards, where they were wanted.
    pub rewards: Vec<Value>,
    /// Tokens generated.
    pub n: u64,
}

impl Door {
    pub fn all() -> Vec<Self> {
        [CHAT, TEXT, LLAMA].into_iter().flat_map(|path| [false, true].map(|stream| Self { path, stream })).collect()
    }

    /// Asks in this way. `body` is written for `/v1/completions`, with `logprobs`.
    pub fn ask(self, server: &Serve, body: &Value) -> Answer {
        let body = self.words(body.clone());
        let parts = match self.stream {
            true => runtime().block_on(events(server.url(self.path), body)),
            false => vec![server.ok(self.path, &body)],
        };
        let mut answer = Answer {
            text: String::new(),
            finish: String::new(),
            names: vec![],
            bytes: vec![],
            logprobs: vec![],
            top: vec![],
            offsets: vec![],
            ids: vec![],
            rewards: vec![],
            n: 0,
        };
        parts.iter().for_each(|part| if self.path == LLAMA { answer.take_llama(part) } else { answer.take(part) });
        answer
    }

    /// The request in the words of the route.
    fn words(self, mut body: Value) -> Value {
        let fields = body.as_object_mut().expect("an object");
        if self.path == CHAT
            && let Some(prompt) = fields.remove("prompt")
        {
            let text = prompt.as_str().unwrap_or("x").to_owned();
            fields.insert("messages".into(), json!([{"role": "user", "content": text}]));
            if let Some(top) = fields.remove("logprobs") {
                fields.extend([("logprobs".to_owned(), json!(true)), ("top_logprobs".to_owned(), top)]);
            }
        }
        if self.path == LLAMA {
            ["logprobs", "return_rewards", "n"].iter().for_each(|name| drop(fields.remove(*name)));
            fields.insert("return_tokens".into(), true.into());
        } else if self.stream {
            fields.insert("stream_options".into(), json!({"include_usage": true}));
        }
        fields.insert("stream".into(), self.stream.into());
        body
    }
}

impl Answer {
    /// All bytes of its tokens.
    pub fn all_bytes(&self) -> Vec<u8> {
        self.bytes.concat()
    }

    fn take(&mut self, part: &Value) {
        self.n += part["usage"]["completion_tokens"].as_u64().unwrap_or(0);
        let choice = &part["choices"][0];
        for text in [&choice["text"], &choice["message"]["content"], &choice["delta"]["content"]] {
            self.text += text.as_str().unwrap_or_default();
        }
        self.finish += choice["finish_reason"].as_str().unwrap_or_default();
        self.rewards.extend(choice["rewards"].as_array().into_iter().flatten().cloned());
        let logprobs = &choice["logprobs"];
        for token in logprobs["content"].as_array().into_iter().flatten() {
            self.names.push(string(&token["token"]));
            self.bytes.push(bytes(&token["bytes"]));
            self.logprobs.push(token["logprob"].as_f64().expect("a number"));
            self.top.push(list(&token["top_logprobs"]).iter().map(|t| string(&t["token"])).collect());
        }
        for (i, name) in logprobs["tokens"].as_array().into_iter().flatten().enumerate() {
            self.names.push(string(name));
            self.bytes.push(bytes(&logprobs["bytes"][i]));
            self.logprobs.push(logprobs["token_logprobs"][i].as_f64().expect("a number"));
            self.top.push(logprobs["top_logprobs"][i].as_object().expect("an object").keys().cloned().collect());
            self.offsets.push(logprobs["text_offset"][i].as_u64().expect("a number"));
        }
    }

    fn take_llama(&mut self, part: &Value) {
        self.text += part["content"].as_str().expect("a text");
        self.ids.extend(part["tokens"].as_array().into_iter().flatten().filter_map(Value::as_u64));
        self.finish += part["stop_type"].as_str().unwrap_or_default();
        self.n += part["tokens_predicted"].as_u64().unwrap_or(0);
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("a list: {value}"))
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string: {value}")).to_owned()
}

fn bytes(value: &Value) -> Vec<u8> {
    list(value).iter().map(|byte| byte.as_u64().and_then(|b| u8::try_from(b).ok()).expect("a byte")).collect()
}
