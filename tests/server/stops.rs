//! Stop strings: within characters and tokens, and in the names of control tokens.

use serde_json::{Value, json};

use super::Serve;
use super::bytes::{BEGIN, END, WORD, byte, draws, serve, with, writes};
use super::doors::{CHAT, Door, LLAMA};

/// Asks in every way, and checks the text, the tokens of the text, and that it was stopped.
fn stops(server: &Serve, body: &Value, text: &str, tokens: &[&[u8]]) {
    let body = with(body.clone(), &json!({"logprobs": 1, "return_rewards": true}));
    for door in Door::all() {
        let answer = door.ask(server, &body);
        let expected = if door.path == LLAMA { "word" } else { "stop" };
        assert_eq!((answer.text.as_str(), answer.finish.as_str()), (text, expected), "{door:?} {body}");
        if door.path == LLAMA {
            assert_eq!(answer.ids.len(), tokens.len(), "{door:?} {body}");
        } else {
            assert_eq!(answer.bytes, tokens, "{door:?} {body}: the tokens of the text, and none of the stop string");
            assert_eq!(answer.rewards.len(), tokens.len(), "{door:?} {body}");
        }
    }
}

fn each(text: &str) -> Vec<&[u8]> {
    text.as_bytes().chunks(1).collect()
}

#[test]
fn a_stop_string_of_characters_that_are_spread_over_tokens_leaves_the_text_before_it_complete() {
    let (server, _folder) = serve(&[]);
    let all = writes("aé媽🤗z");
    for (stop, before) in [
        (json!("媽"), "aé"),
        (json!(["🤗z"]), "aé媽"),
        (json!(["z", "é媽"]), "a"),
        (json!(["a"]), ""),
        (json!(["媽x", "🤗"]), "aé媽"),
        (json!(["never", "z"]), "aé媽🤗"),
    ] {
        stops(&server, &with(all.clone(), &json!({"stop": stop})), before, &each(before));
    }
}

#[test]
fn a_text_that_only_begins_a_stop_string_is_given_out_whole() {
    let (server, _folder) = serve(&[]);
    for stop in [json!("媽🤗x"), json!(["🤗zz", "é媽z"]), json!("zé")] {
        let body = with(writes("aé媽🤗z"), &json!({"stop": stop, "logprobs": 1}));
        for door in Door::all() {
            let answer = door.ask(&server, &body);
            assert_eq!(answer.text, "aé媽🤗z", "{door:?} {stop}");
            assert!(door.path == LLAMA || answer.bytes == each("aé媽🤗z"), "{door:?} {stop}");
        }
    }
}

#[test]
fn a_stop_string_that_begins_or_ends_inside_a_token_cuts_it() {
    let (server, _folder) = serve(&[]);
    let body = draws(&[byte(b'a'), WORD, byte(b'b')]);
    for (stop, text, tokens) in [
        ("300", "a w", vec![&b"a"[..], b" w"]),
        (" w300b", "a", vec![&b"a"[..]]),
        ("a w3", "", vec![]),
        ("0b", "a w30", vec![&b"a"[..], b" w30"]),
    ] {
        stops(&server, &with(body.clone(), &json!({"stop": stop})), text, &tokens);
    }
}

#[test]
fn a_stop_string_may_follow_half_a_character() {
    let (server, _folder) = serve(&[]);
    let body = with(draws(&[byte(b'a'), byte(0xC3), byte(b'b')]), &json!({"stop": "b"}));
    stops(&server, &body, "a\u{FFFD}", &[b"a", b"\xC3"]);
}

#[test]
fn a_stop_string_that_spells_a_control_token_ends_the_text_at_that_token() {
    let (server, _folder) = serve(&[]);
    let body = draws(&[byte(b'a'), byte(b'\n'), BEGIN, byte(b'b')]);
    for (stop, text) in [("<s>", "a\n"), ("\n<s>", "a"), ("<s>b", "a\n"), ("\n<s>b", "a"), ("\nb", "a")] {
        stops(&server, &with(body.clone(), &json!({"stop": [stop]})), text, &each(text));
    }
    // Signs that are nowhere in the text do not end it.
    for stop in ["<", "s>", "\n<", ">b"] {
        let answer = Door { path: CHAT, stream: false }.ask(&server, &with(body.clone(), &json!({"stop": [stop]})));
        assert_eq!((answer.text.as_str(), answer.finish.as_str()), ("a\nb", "length"), "{stop}");
    }
}

#[test]
fn a_stop_string_that_spells_the_end_token_ends_the_text_as_a_stop_string() {
    let (server, _folder) = serve(&[]);
    let body = draws(&[byte(b'a'), byte(b'\n'), END]);
    for (stop, text) in [("</s>", "a\n"), ("\n</s>", "a")] {
        stops(&server, &with(body.clone(), &json!({"stop": [stop]})), text, &each(text));
    }
    for stop in [json!(null), json!(""), json!([]), json!([""]), json!(["\n\n", "</s>b"])] {
        let body = with(body.clone(), &json!({"stop": stop}));
        for door in Door::all() {
            let answer = door.ask(&server, &body);
            let expected = if door.path == LLAMA { "eos" } else { "stop" };
            assert_eq!((answer.text.as_str(), answer.finish.as_str()), ("a\n", expected), "{door:?} {stop}");
        }
    }
}

#[test]
fn the_name_of_a_control_token_stops_also_where_it_is_plain_text() {
    let (server, _folder) = serve(&[]);
    stops(&server, &with(writes("a</s>b"), &json!({"stop": "</s>"})), "a", &[b"a"]);
}
