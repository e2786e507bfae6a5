//! Tokens, their bytes, their places and the text agree, also where a character is spread over several tokens.

use serde_json::json;

use super::bytes::{BEGIN, WORD, byte, draws, serve, with, writes};
use super::doors::{Answer, CHAT, Door, LLAMA, TEXT};

const DOORS: [Door; 4] = [
    Door { path: CHAT, stream: false },
    Door { path: CHAT, stream: true },
    Door { path: TEXT, stream: false },
    Door { path: TEXT, stream: true },
];

/// What holds for every answer with its tokens.
fn check(answer: &Answer, what: &str) {
    assert_eq!(
        String::from_utf8_lossy(&answer.all_bytes()),
        answer.text,
        "{what}: the bytes of the tokens are the text"
    );
    let rewards: Vec<Vec<u8>> = answer
        .rewards
        .iter()
        .map(|r| r["bytes"].as_array().expect("a list").iter().map(|b| b.as_u64().expect("a byte") as u8).collect())
        .collect();
    assert_eq!(rewards, answer.bytes, "{what}: rewards list the same tokens");
    let mut before = Vec::new();
    for (offset, bytes) in answer.offsets.iter().zip(&answer.bytes) {
        // The character that the token's first byte belongs to.
        let with_first = [&before[..], &bytes[..bytes.len().min(1)]].concat();
        let place = String::from_utf8_lossy(&with_first).chars().count() - usize::from(!bytes.is_empty());
        assert_eq!(*offset as usize, place, "{what}: {answer:?}");
        before.extend_from_slice(bytes);
    }
}

#[test]
fn a_character_of_several_tokens_has_one_place_and_all_its_bytes() {
    let (server, _folder) = serve(&[]);
    let body = with(writes("aé媽🤗z"), &json!({"logprobs": 3, "return_rewards": true}));
    for door in DOORS {
        let answer = door.ask(&server, &body);
        assert_eq!((answer.text.as_str(), answer.finish.as_str()), ("aé媽🤗z", "stop"), "{door:?}");
        check(&answer, &format!("{door:?}"));
        assert_eq!(answer.bytes.len(), 11);
        assert!(answer.top.iter().all(|top| top.len() == 3), "each of the likeliest tokens has a name of its own");
        if door.path == TEXT {
            assert_eq!(answer.offsets, [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4]);
            assert_eq!(answer.names[..4], ["a", "bytes:\\xc3", "bytes:\\xa9", "bytes:\\xe5"]);
        }
    }
    let [whole, streamed] = [false, true].map(|stream| Door { path: LLAMA, stream }.ask(&server, &body));
    let expected: Vec<_> = "aé媽🤗z".bytes().map(|b| u64::from(byte(b))).collect();
    assert_eq!(whole.ids, expected, "tokens whose text is held back are listed too");
    assert_eq!((streamed.ids, streamed.text), (whole.ids, whole.text));
}

#[test]
fn bytes_that_are_no_characters_are_listed_as_they_are() {
    let (server, _folder) = serve(&[]);
    // Half characters, one that another one breaks off, and one that the end breaks off.
    for (tokens, text) in [
        (vec![byte(0xC3), byte(b'a')], "\u{FFFD}a"),
        (vec![byte(0xE5), byte(0xAA), byte(0xC3)], "\u{FFFD}\u{FFFD}"),
        (vec![byte(0xA9), byte(0xC3), byte(0xA9 - 1)], "\u{FFFD}è"),
        (vec![byte(0xF0), byte(0x9F), WORD], "\u{FFFD} w300"),
    ] {
        let body = with(draws(&tokens), &json!({"logprobs": 2, "return_rewards": true}));
        for door in DOORS {
            let answer = door.ask(&server, &body);
            assert_eq!(answer.text, text, "{door:?} {tokens:?}");
            assert_eq!(answer.bytes.len(), tokens.len());
            check(&answer, &format!("{door:?} {tokens:?}"));
        }
    }
}

#[test]
fn a_control_token_is_listed_by_name_and_adds_nothing_to_the_text() {
    let (server, _folder) = serve(&[]);
    let body = with(draws(&[byte(b'a'), BEGIN, byte(b'b')]), &json!({"logprobs": 2, "return_rewards": true}));
    for door in DOORS {
        let answer = door.ask(&server, &body);
        assert_eq!((answer.text.as_str(), answer.n), ("ab", 3), "{door:?}");
        assert_eq!(answer.names, ["a", "<s>", "b"]);
        assert_eq!(answer.bytes, [&b"a"[..], b"", b"b"]);
        check(&answer, &format!("{door:?}"));
    }
}

#[test]
fn whole_and_streamed_answers_list_the_same_tokens_of_any_text() {
    let (server, _folder) = serve(&["--parallel", "1"]);
    for seed in 0..6 {
        // Noise of single bytes, so of broken characters too.
        let body = json!({"prompt": [70], "max_tokens": 40, "seed": seed, "temperature": 1.5, "logprobs": 4,
            "return_rewards": true, "stop": ["\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}never"]});
        for path in [TEXT, CHAT] {
            let [whole, streamed] = [false, true].map(|stream| Door { path, stream }.ask(&server, &body));
            check(&whole, "whole");
            assert_eq!(whole, streamed, "{path}, seed {seed}");
        }
    }
}
