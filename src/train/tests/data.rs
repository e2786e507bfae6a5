//! Every spelling of a pair, and what is left out.

use super::*;
use crate::chat::{SpecialTexts, Tokenize};
use crate::engine::llama::TokenizeError;
use crate::expert::Token;
use crate::train::TrainError;
use crate::train::pairs::{self, Counts, Example};
use crate::train::render;
use crate::train::settings::{ObjectiveName, Overlong};
use std::io::Write;
use std::ops::Range;

/// One token a character, BOS 1.
pub(super) struct Characters;

impl Tokenize for Characters {
    fn prompt(&self, text: &str, _: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        Ok(std::iter::once(1).chain(text.chars().map(|c| c as Token)).collect())
    }

    fn control_tokens(&self, _: &str) -> Vec<Range<usize>> {
        Vec::new()
    }

    fn special(&self) -> SpecialTexts {
        SpecialTexts { bos: "<s>".into(), eos: "</s>".into(), ..SpecialTexts::default() }
    }

    fn eos(&self) -> Option<Token> {
        Some(2)
    }
}

pub(super) fn load(name: &str, bytes: &[u8], wire: Wire) -> Result<(Vec<Example>, Counts), TrainError> {
    load_within(60, name, bytes, wire)
}

pub(super) fn load_within(
    max_len: usize,
    name: &str,
    bytes: &[u8],
    wire: Wire,
) -> Result<(Vec<Example>, Counts), TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let wire = Wire { backbone: Some("b".into()), pairs: Some(vec![path.into()]), out: Some("o".into()), ..wire };
    let template = render::template(wire.template.as_deref().unwrap_or("auto"), None).unwrap();
    pairs::load(&settings(wire), &Characters, &template, max_len)
}

pub(super) fn text(tokens: &[u32]) -> String {
    tokens.iter().filter(|t| **t > 2).filter_map(|t| char::from_u32(*t)).collect()
}

#[test]
fn every_spelling_of_a_pair_is_read() {
    let forms = [
        r#"{"prompt":"Hi","chosen":" yes","rejected":" no"}"#,
        r#"{"chosen":"\n\nHuman: Hi\n\nAssistant: yes","rejected":"\n\nHuman: Hi\n\nAssistant: no"}"#,
        r#"{"prompt":[{"role":"user","content":"Hi"}],"chosen":[{"role":"assistant","content":"yes"}],"rejected":[{"role":"assistant","content":"no"}]}"#,
        r#"{"chosen":[{"role":"user","content":"Hi"},{"role":"assistant","content":"yes"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"no"}]}"#,
        r#"{"conversations":[{"from":"human","value":"Hi"}],"chosen":{"from":"gpt","value":"yes"},"rejected":{"from":"gpt","value":"no"}}"#,
    ];
    for (i, form) in forms.iter().enumerate() {
        for bytes in [form.as_bytes().to_vec(), format!("[\n{form}\n]").into_bytes(), gzip(form)] {
            let (examples, _) = load("pairs.json", &bytes, Wire::default()).unwrap();
            let e = &examples[0];
            let prompt = if i == 0 { "Hi" } else { "\n\nHuman: Hi\n\nAssistant:" };
            assert_eq!(
                (text(&e.prompt), text(&e.chosen), text(&e.rejected)),
                (prompt.into(), " yes".into(), " no".into())
            );
            assert_eq!((e.prompt[0], *e.chosen.last().unwrap()), (1, 2), "BOS first, EOS scored");
        }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn useless_examples_are_left_out_and_counted() {
    let long = "x".repeat(80);
    let lines = format!(
        "{}\n{}\n\n{}\n{}\n{}\n",
        r#"{"prompt":"a","chosen":"b","rejected":"c"}"#,
        r#"{"prompt":"a","chosen":"b","rejected":"c"}"#,
        r#"{"prompt":"a","chosen":"b","rejected":"b"}"#,
        r#"{"prompt":"a","chosen":"","rejected":"b"}"#,
        format_args!(r#"{{"prompt":"{long}","chosen":"b{long}","rejected":"c"}}"#),
    );
    let (examples, counts) = load("p.jsonl", lines.as_bytes(), Wire::default()).unwrap();
    let want = Counts { used: 1, duplicate: 1, identical: 1, empty: 1, overlong: 1, ..Counts::default() };
    assert_eq!((examples.len(), counts), (1, want));
    let wire = Wire { overlong: Some(Overlong::Truncate), max_prompt: Some(30), ..Wire::default() };
    let (examples, counts) = load("p.jsonl", lines.as_bytes(), wire).unwrap();
    assert_eq!((counts.truncated, counts.overlong), (1, 0));
    let e = &examples[1];
    assert_eq!(
        (e.prompt.len(), e.prompt[0], e.chosen.len(), text(&e.chosen)[..2].into()),
        (30, 1, 30, "bx".to_string())
    );
}

#[test]
fn a_malformed_line_is_named_or_counted() {
    let lines = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n{\"prompt\": oops\n{\"prompt\":\"a\"}\n";
    let message = load("p.jsonl", lines.as_bytes(), Wire::default()).unwrap_err().to_string();
    assert!(message.contains("p.jsonl:2: not JSON"), "{message}");
    let (_, counts) = load("p.jsonl", lines.as_bytes(), Wire { skip_bad: true, ..Wire::default() }).unwrap();
    assert_eq!((counts.used, counts.bad), (1, 2));
    let not_utf8 = [b"{\"prompt\":\"".as_slice(), &[0xff, 0xfe], b"\"}\n"].concat();
    let message = load("p.jsonl", &not_utf8, Wire::default()).unwrap_err().to_string();
    assert!(message.contains("p.jsonl:1: not UTF-8"), "{message}");
    let message = load("p.jsonl", b"", Wire::default()).unwrap_err().to_string();
    assert!(message.contains("no usable examples"), "{message}");
}

#[test]
fn texts_are_cut_to_pieces_that_fit() {
    let wire = || Wire { objective: Some(ObjectiveName::Sft), ..Wire::default() };
    let line = format!("{{\"text\":\"{}\"}}", "y".repeat(100));
    let (examples, _) = load("t.jsonl", line.as_bytes(), wire()).unwrap();
    assert_eq!(examples.iter().map(|e| e.chosen.len()).collect::<Vec<_>>(), [59, 42]);
    let (examples, _) = load("t.txt", b"one\ntwo\n\nthree\n", wire()).unwrap();
    assert_eq!(examples.iter().map(|e| text(&e.chosen)).collect::<Vec<_>>(), ["one\ntwo", "three"]);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_change_nothing() {
    let line = r#"{"prompt":"Hi","chosen":" yes","rejected":" no"}"#;
    let (plain, counts) = load("p.jsonl", line.as_bytes(), Wire::default()).unwrap();
    assert_eq!(counts.used, 1);
    for text in [format!("\u{feff}{line}"), format!("{line}\r\n\r\n"), format!("\u{feff}[\r\n{line}\r\n]\r\n")] {
        assert_eq!(load("p.jsonl", text.as_bytes(), Wire::default()).unwrap().0, plain, "{text:?}");
        assert_eq!(load("p.jsonl.gz", &gzip(&text), Wire::default()).unwrap().0, plain, "{text:?}");
    }
    let wire = || Wire { objective: Some(ObjectiveName::Sft), ..Wire::default() };
    let (lines, _) = load("t.txt", b"one\ntwo\n\nthree\n", wire()).unwrap();
    assert_eq!(load("t.txt", "\u{feff}one\r\ntwo\r\n\r\nthree\r\n".as_bytes(), wire()).unwrap().0, lines);
}

#[test]
fn messages_and_a_transcript_of_the_same_words_are_the_same_tokens() {
    let messages = r#"{"prompt":[{"role":"user","content":"Hi"}],"chosen":[{"role":"assistant","content":"yes"}],"rejected":"no"}"#;
    let parts = r#"{"prompt":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"chosen":"yes","rejected":{"role":"assistant","content":[{"type":"text","text":"no"}]}}"#;
    let text = r#"{"chosen":"\n\nHuman: Hi\n\nAssistant: yes","rejected":"\n\nHuman: Hi\n\nAssistant: no"}"#;
    let read = |line: &str| load("p.jsonl", line.as_bytes(), Wire::default()).unwrap();
    assert_eq!(read(messages).0, read(text).0);
    assert_eq!(read(parts).0, read(text).0);
    assert_eq!((read(messages).1.conversations, read(text).1.conversations), (1, 0));
    let image = parts.replace("\"text\",\"text\":\"Hi\"", "\"image_url\"");
    let error = load("p.jsonl", image.as_bytes(), Wire::default()).unwrap_err().to_string();
    assert!(error.contains("image_url"), "{error}");
}

/// Characters, among which `</s>` is a control token.
struct Ending;

impl Tokenize for Ending {
    fn prompt(&self, text: &str, literal: &[Range<usize>]) -> Result<Vec<Token>, TokenizeError> {
        Characters.prompt(text, literal)
    }

    fn control_tokens(&self, text: &str) -> Vec<Range<usize>> {
        text.match_indices("</s>").map(|(at, end)| at..at + end.len()).collect()
    }

    fn special(&self) -> SpecialTexts {
        Characters.special()
    }

    fn eos(&self) -> Option<Token> {
        None
    }
}

#[test]
fn a_response_that_is_only_the_end_of_text_is_empty_and_one_that_differs_only_by_it_is_identical() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    let lines = [
        r#"{"prompt":"x</s>","chosen":"yes","rejected":"no"}"#,
        r#"{"prompt":"x</s>","chosen":"Hi","rejected":"</s>"}"#,
        r#"{"prompt":"x</s>","chosen":"Hi</s>","rejected":"Hi"}"#,
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let wire =
        Wire { backbone: Some("b".into()), pairs: Some(vec![path.into()]), out: Some("o".into()), ..Wire::default() };
    let template = render::template("auto", None).unwrap();
    let (examples, counts) = pairs::load(&settings(wire), &Ending, &template, 60).unwrap();
    assert_eq!((examples.len(), counts.empty, counts.identical), (1, 1, 1), "{counts}");
}
