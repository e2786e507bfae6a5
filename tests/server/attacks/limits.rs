//! Lists without end, names of a megabyte, numbers out of every range.

use serde_json::{Map, Value, json};

use super::{Attack, Right};

/// An object with `n` entries.
fn entries(n: usize, key: impl Fn(usize) -> String, value: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..n).map(|i| (key(i), value(i))).collect::<Map<_, _>>())
}

/// Arrays within each other.
fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

pub fn attacks() -> Vec<Attack> {
    use Right::{Answered, Refused};
    let completion = Attack::completion;
    let chat = |name, body| Attack::new(name, "/v1/chat/completions", body, Refused("context"));
    let long = || "a".repeat(900_000);
    vec![
        completion(
            "a sampler repeated 20,000 times",
            json!({"samplers": vec!["typ_p"; 20_000], "typ_p": 0.999}),
            Refused("samplers"),
        ),
        completion(
            "a sampler repeated 120,000 times",
            json!({"samplers": vec!["dry"; 120_000], "dry_multiplier": 1.0}),
            Refused("samplers"),
        ),
        completion("a sampler named twice", json!({"samplers": ["top_k", "top_p", "top_k"]}), Refused("samplers")),
        completion(
            "85,000 logit biases",
            json!({"logit_bias": entries(85_000, |i| (10_000 + i).to_string(), |_| json!(0))}),
            Refused("logit_bias"),
        ),
        completion(
            "30,000 logit biases by text",
            json!({"logit_bias": entries(30_000, |i| format!("word {i}"), |_| json!(0))}),
            Refused("logit_bias"),
        ),
        completion("a logit bias of a text of a megabyte", json!({"logit_bias": {long(): 1}}), Refused("logit_bias")),
        completion("a field name of a million characters", json!({long(): 1}), Refused("unknown field")),
        completion(
            "80,000 unknown fields",
            entries(80_000, |i| format!("x{i}"), |_| json!(1)),
            Refused("unknown field"),
        ),
        completion("a sampler's name of a megabyte", json!({"samplers": [long()]}), Refused("samplers")),
        completion("a text where a number belongs", json!({"temperature": long()}), Refused("temperature")),
        completion("a profile's name of a megabyte", json!({"profile": long()}), Refused("profile")),
        completion("an ARM's name of a megabyte", json!({"preferences": {long(): 1}}), Refused("ARM")),
        completion(
            "60,000 preferences",
            json!({"preferences": entries(60_000, |i| format!("arm-{i}"), |_| json!(1))}),
            Refused("ARM"),
        ),
        completion("200,000 stop texts", json!({"stop": vec!["a"; 200_000]}), Refused("stop")),
        completion("a stop text of a megabyte", json!({"stop": long()}), Refused("stop")),
        completion(
            "100,000 sequence breakers",
            json!({"dry_sequence_breakers": vec!["a"; 100_000], "dry_multiplier": 1}),
            Refused("dry_sequence_breakers"),
        ),
        completion(
            "a sequence breaker of a megabyte",
            json!({"dry_sequence_breakers": [long()], "dry_multiplier": 1}),
            Refused("dry_sequence_breakers"),
        ),
        completion("a prompt of 200,000 tokens", json!({"prompt": vec![5; 200_000]}), Refused("context")),
        completion("200,000 prompts", json!({"prompt": vec!["a"; 200_000]}), Refused("prompt")),
        completion("200,000 empty lists", json!({"prompt": vec![Vec::<i32>::new(); 200_000]}), Refused("prompt")),
        Attack::new(
            "logprobs beyond the vocabulary",
            "/v1/completions",
            json!({"prompt": "Tom", "max_tokens": 1, "logprobs": 1_000_000}),
            Refused("logprobs"),
        ),
        Attack::new("a million texts", "/v1/completions", json!({"prompt": "Tom", "n": 1_000_000}), Refused("n")),
        chat("20,000 messages", json!({"messages": vec![json!({"role": "user", "content": "Hello!"}); 20_000]})),
        Attack::new(
            "a role of a megabyte",
            "/v1/chat/completions",
            json!({"messages": [{"role": long(), "content": "Hi"}]}),
            Refused("role"),
        ),
        Attack::new("a text of nested arrays", "/tokenize", json!({"content": nested(100_000)}), Answered),
        Attack::new("400,000 tokens to write as text", "/detokenize", json!({"tokens": vec![5; 400_000]}), Answered),
        Attack::new("a token outside the vocabulary", "/detokenize", json!({"tokens": [-1]}), Refused("token")),
        Attack::new(
            "a token id that is no id",
            "/detokenize",
            json!({"tokens": [9_999_999_999_i64]}),
            Refused("tokens"),
        ),
        Attack::new("a score of nothing known", "/v1/score", json!({"prompt": "Tom", long(): 1}), Refused("response")),
    ]
}
