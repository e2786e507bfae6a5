//! A vocabulary as translation sees it: what its tokens add to a text, and how it spells one that stands in the middle.

use std::path::Path;

use genarm::Token;
use genarm::engine::VocabWords;
use genarm::engine::llama::{Model, Vocab};
use genarm::guidance::translate::{WordKind, Words};

use crate::support::vocabularies::{bpe_model, spm_model, wordpiece_model};
use crate::support::{demo, models};

const TEXTS: [&str; 10] =
    ["a", " a", "  a", "\n", "\n\n  aa", "hello", " hello", "hello world", "It's 12.\tÄ 世", "<s> </s> <|end|>"];

fn vocab(path: &Path) -> Vocab {
    Model::load_vocab(path).expect("a vocabulary").vocab()
}

fn words(path: &Path) -> VocabWords {
    VocabWords::new(&vocab(path)).expect("a tokenizer that keeps every byte")
}

fn spelled(words: &dyn Words, text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    assert!(words.spell(text, &mut tokens), "{text:?}");
    tokens
}

fn bytes(words: &dyn Words, tokens: &[Token]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokens.iter().for_each(|token| words.bytes(*token, &mut bytes));
    bytes
}

/// Sentencepiece with a virtual space and byte tokens, and byte-level BPE without and with user-defined tokens.
fn vocabularies(folder: &Path) -> Vec<VocabWords> {
    let bpe = folder.join("bpe.gguf");
    bpe_model(&bpe, "llama-bpe");
    [&models().base, &demo("base.gguf"), &bpe].map(|path| words(path)).into()
}

#[test]
fn a_text_has_its_own_bytes_in_the_middle_of_another() {
    let folder = tempfile::tempdir().expect("a folder");
    for words in vocabularies(folder.path()) {
        for text in TEXTS.map(str::to_owned).into_iter().chain([" hello\n".repeat(200)]) {
            assert_eq!(bytes(&words, &spelled(&words, &text)), text.as_bytes());
        }
        assert!(spelled(&words, "").is_empty());
    }
}

#[test]
fn the_middle_of_a_text_is_spelled_as_the_whole_text_is() {
    for path in [&models().base, &demo("base.gguf")] {
        let (vocab, words) = (vocab(path), words(path));
        for (start, rest) in [("Once", " upon a time"), ("One day,", "\n she said"), ("Tom", ".")] {
            let whole = vocab.tokenize(&[start, rest].concat(), false, false).expect("tokens");
            assert!(whole.ends_with(&spelled(&words, rest)), "{start}{rest}");
        }
    }
}

#[test]
fn a_text_at_the_beginning_is_spelled_as_the_model_reads_it() {
    for path in [&models().base, &demo("base.gguf")] {
        let (vocab, words) = (vocab(path), words(path));
        let mut tokens = Vec::new();
        assert!(words.spell_first("Once upon a time", &mut tokens));
        assert_eq!(tokens, vocab.tokenize("Once upon a time", false, false).expect("tokens"));
    }
}

#[test]
fn the_names_of_control_tokens_are_plain_text() {
    let folder = tempfile::tempdir().expect("a folder");
    for words in vocabularies(folder.path()) {
        let control = |token: &Token| words.kind(*token) == WordKind::Control;
        let mut names = (0..words.n_tokens() as Token).filter(control).peekable();
        assert!(names.peek().is_some());
        for token in names {
            let name = String::from_utf8(bytes(&words, &[token])).expect("a name");
            assert!(!spelled(&words, &name).iter().any(control), "{name}");
        }
    }
}

#[test]
fn byte_tokens_add_a_byte_and_the_token_that_begins_a_text_is_one_that_texts_begin_with() {
    let words = words(&models().base);
    let byte = (0..words.n_tokens() as Token).find(|token| words.kind(*token) == WordKind::Byte).expect("byte tokens");
    assert_eq!(bytes(&words, &[byte]).len(), 1);
    assert_eq!(words.bos(), Some(1));
    assert!(words.is_end(2) && !words.is_end(byte));
}

#[test]
fn a_text_that_llama_cpp_reads_with_a_space_more_is_not_spelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spm.gguf");
    spm_model(&path);
    let words = words(&path);
    // Behind its user-defined line breaks llama.cpp puts the space that begins a text.
    let mut tokens = vec![7];
    assert!(!words.spell("\na", &mut tokens));
    assert_eq!(tokens, [7]);
    assert!(words.spell("aa", &mut tokens) && words.spell("\n", &mut tokens));
}

#[test]
fn a_tokenizer_that_changes_texts_has_no_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wordpiece.gguf");
    wordpiece_model(&path);
    assert!(VocabWords::new(&vocab(&path)).is_none());
}
