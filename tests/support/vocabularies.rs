//! Small vocabularies of every kind of tokenizer.

use std::path::Path;

use genarm::engine::gguf::{Strings, Value};

use super::random::model_that_reads;

/// llama.cpp's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Texts that a byte-level vocabulary joins, in the order in which it does so.
const MERGES: [&str; 24] = [
    "a a",
    "aa aa",
    "A A",
    "A a",
    "1 1",
    "11 1",
    "= =",
    "== ==",
    "Ġ Ġ",
    "ĠĠ ĠĠ",
    "Ċ Ċ",
    "h e",
    "l l",
    "he ll",
    "hell o",
    "Ġ hello",
    "Ġ w",
    "o r",
    "Ġw or",
    "l d",
    "Ġwor ld",
    "Ġ a",
    "ä ¸",
    "ä¸ Ģ",
];

/// A byte as a byte-level vocabulary writes it: itself where it can be seen, else one of the characters from 256 on.
fn byte_characters() -> Vec<char> {
    let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 256;
    let character = |byte: u8| {
        if visible(&byte) {
            return char::from(byte);
        }
        next += 1;
        char::from_u32(next - 1).expect("a character")
    };
    (0..=255).map(character).collect()
}

/// Writes a model with a byte-level vocabulary under this pre-tokenizer. It has two control tokens, `<s>` and
/// `<|end|>`, and two that a user has defined, `##` and `@@`.
pub fn bpe_model(path: &Path, pre: &str) {
    let mut tokens: Vec<(String, i32)> = byte_characters().into_iter().map(|c| (c.into(), NORMAL)).collect();
    tokens.extend(MERGES.iter().map(|merge| (merge.replace(' ', ""), NORMAL)));
    tokens.extend([("<s>", CONTROL), ("<|end|>", CONTROL), ("##", USER_DEFINED), ("@@", USER_DEFINED)].map(own));
    write(path, "gpt2", &[("pre", pre.into()), ("merges", strings(MERGES.iter().map(ToString::to_string)))], tokens);
}

/// Writes a model with a sentencepiece vocabulary; with control tokens, and user-defined ones for runs of line breaks.
pub fn spm_model(path: &Path) {
    let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 6));
    let mut tokens: Vec<(String, i32)> = [("<unk>", 2), ("<s>", CONTROL), ("</s>", CONTROL)].map(own).to_vec();
    tokens.extend(bytes);
    tokens.extend(
        ["a", "aa", "aaaa", "▁", "▁▁", "▁a", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello"]
            .map(|t| own((t, NORMAL))),
    );
    tokens.extend((1..=8).map(|n| ("\n".repeat(n), USER_DEFINED)));
    tokens.extend((0..40).map(|i| (format!("<unused{i}>"), CONTROL)));
    let scores: Vec<f32> = (0..tokens.len()).map(|i| -(i as f32)).collect();
    write(path, "llama", &[("scores", scores.into())], tokens);
}

/// Writes a model with a WordPiece vocabulary, which keeps neither capitals nor runs of spaces.
pub fn wordpiece_model(path: &Path) {
    let tokens =
        [("[UNK]", CONTROL), ("<s>", CONTROL), ("</s>", CONTROL), ("▁a", NORMAL), ("▁b", NORMAL), ("1", NORMAL)];
    let ids = [("unknown_token_id", 0u32.into()), ("seperator_token_id", 2u32.into())];
    write(path, "bert", &ids, tokens.map(own).into());
}

/// Writes a model with a sentencepiece vocabulary of a few characters, which cannot write any other.
pub fn few_model(path: &Path) {
    let tokens = [("<unk>", 2), ("<s>", CONTROL), ("</s>", CONTROL), ("▁", NORMAL), ("a", NORMAL), ("b", NORMAL)];
    write(path, "llama", &[("scores", vec![0.0f32; 6].into())], tokens.map(own).into());
}

fn own((text, kind): (&str, i32)) -> (String, i32) {
    (text.to_owned(), kind)
}

fn strings(texts: impl Iterator<Item = String>) -> Value {
    texts.collect::<Strings>().into()
}

fn write(path: &Path, model: &str, more: &[(&str, Value)], tokens: Vec<(String, i32)>) {
    let id = |name: &str| tokens.iter().position(|(text, _)| text == name).map(|at| at as u32);
    let (bos, eos) = (id("<s>").expect("BOS"), id("<|end|>").or(id("</s>")).expect("EOS"));
    let types: Vec<i32> = tokens.iter().map(|(_, kind)| *kind).collect();
    let n_vocab = tokens.len();
    let common = [
        ("model", model.into()),
        ("tokens", strings(tokens.into_iter().map(|(text, _)| text))),
        ("token_type", types.into()),
        ("bos_token_id", bos.into()),
        ("eos_token_id", eos.into()),
        ("add_bos_token", true.into()),
    ];
    let metadata = common.into_iter().chain(more.iter().cloned());
    let metadata = metadata.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
    model_that_reads(path, "llama", metadata, n_vocab);
}
