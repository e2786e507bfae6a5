//! Texts that are long, or of one kind of character throughout.

use serde_json::json;

use super::{Attack, Right};

/// Texts of one kind, which pre-tokenizers take for one word.
const RUNS: [(&str, &str); 12] = [
    ("letters", "a"),
    ("capitals", "A"),
    ("digits", "1"),
    ("spaces", " "),
    ("newlines", "\n"),
    ("an underline", "="),
    ("base64", "aB3+"),
    ("combining marks", "\u{301}"),
    ("emoji", "😀"),
    ("Chinese", "一"),
    ("no-break spaces", "\u{a0}"),
    ("words", "a a "),
];

/// `control` is the name of a control token.
pub fn attacks(control: &str) -> Vec<Attack> {
    use Right::{Answered, Refused};
    let tokenize = |(name, unit): (&'static str, &str), n_bytes: usize| {
        let body = json!({"content": unit.repeat(n_bytes / unit.len())});
        Attack::new(name, "/tokenize", body, Answered)
    };
    let mut attacks: Vec<_> = RUNS.iter().map(|run| tokenize(*run, 8_000)).collect();
    // JSON may write a character in six bytes, and a body has a megabyte.
    attacks.extend(RUNS.iter().map(|run| tokenize(*run, 150_000)));
    attacks.push(Attack::completion(
        "many control tokens in a prompt",
        json!({"prompt": control.repeat(90_000)}),
        Refused("context"),
    ));
    attacks.push(Attack::completion(
        "control tokens with text between them",
        json!({"prompt": format!("{control}a").repeat(70_000)}),
        Refused("context"),
    ));
    attacks.push(Attack::completion(
        "a prompt of a megabyte",
        json!({"prompt": "Once upon a time. ".repeat(50_000)}),
        Refused("context"),
    ));
    attacks.push(Attack::new(
        "a conversation of a megabyte",
        "/v1/chat/completions",
        json!({"messages": [{"role": "user", "content": "Hello! ".repeat(120_000)}]}),
        Refused("context"),
    ));
    attacks.push(Attack::new(
        "a response of a megabyte",
        "/v1/score",
        json!({"prompt": "Tom", "response": "Hello! ".repeat(120_000)}),
        Refused("context"),
    ));
    attacks
}
