//! Both engines over small vocabularies.

mod bounds;
mod gbnf;
mod schema;

use super::*;

/// The token that ends a text, in [`bytes`].
const END: Token = 300;

/// A vocabulary of all single bytes, some longer tokens, a twin of "a" (299) and an end (300).
fn bytes() -> Arc<GrammarVocabulary> {
    static KNOWN: std::sync::OnceLock<Arc<GrammarVocabulary>> = std::sync::OnceLock::new();
    let make = || {
        let mut texts: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
        let words = ["aaaaaaaaaaaaaaaa", "ab", "\"}", "{\"", "\": ", "é", "日本", "true", ", \"", "12"];
        texts.extend(words.iter().map(|word| word.as_bytes().to_vec()));
        texts.resize(299, Vec::new());
        texts.push(b"a".to_vec());
        texts.push(b"<end>".to_vec());
        Arc::new(GrammarVocabulary::new(texts, vec![END]))
    };
    Arc::clone(KNOWN.get_or_init(make))
}

fn compile_gbnf(text: &str) -> Result<Arc<Compiled>, GrammarError> {
    Compiled::gbnf_over(text, "grammar", &|text| (text == "<think>").then_some(270), &[], bytes).map(Arc::new)
}

fn compile_schema(schema: &Value, strict: bool) -> Result<Arc<Compiled>, GrammarError> {
    Compiled::schema_over(schema, strict, "json_schema", bytes)
}

/// Whether a text, byte by byte, is one of the language: every byte allowed where it stands, and then the end.
fn takes(compiled: &Arc<Compiled>, text: &str) -> bool {
    let mut grammar = Grammar::new(Arc::clone(compiled));
    for byte in text.bytes() {
        if !grammar.allows(byte.into()).expect("within the bounds") {
            return false;
        }
        grammar.accept(byte.into()).expect("within the bounds");
    }
    grammar.allows(END).expect("within the bounds")
}

/// Asserts which texts a grammar takes.
fn assert_takes(compiled: &Arc<Compiled>, right: &[&str], wrong: &[&str]) {
    for text in right {
        assert!(takes(compiled, text), "takes {text:?}");
    }
    for text in wrong {
        assert!(!takes(compiled, text), "does not take {text:?}");
    }
}

/// What the mask over the whole vocabulary allows.
fn masked(grammar: &mut Grammar) -> Vec<Token> {
    let mut candidates: Vec<_> = (0..=END).map(|id| llama_token_data { id, logit: 1.0, p: 0.0 }).collect();
    grammar.apply(&mut candidates).expect("within the bounds");
    candidates.iter().filter(|c| c.logit == 1.0).map(|c| c.id).collect()
}

#[test]
fn the_mask_and_the_single_question_agree_at_every_place_of_a_text() {
    let schema =
        serde_json::json!({"type": "object", "properties": {"é": {"enum": ["aab", 12, true]}}, "required": ["é"]});
    let cases = [
        (compile_gbnf("root ::= \"a\"* (\"é\" | [^a-z] <think>) \"b\"").expect("a grammar"), "aaaaé"),
        (compile_gbnf("root ::= (\"ab\" | \"a\" root \"b\")").expect("a grammar"), "aaab"),
        (compile_schema(&schema, true).expect("a schema"), "{\"é\": \"aa"),
    ];
    for (compiled, text) in cases {
        let mut grammar = Grammar::new(Arc::clone(&compiled));
        for byte in text.bytes() {
            let all = masked(&mut grammar);
            grammar.is_masked = false;
            let each: Vec<Token> = (0..=END).filter(|token| grammar.allows(*token) == Ok(true)).collect();
            assert_eq!(all, each, "before {byte} of {text:?}");
            assert_eq!(all.contains(&97), all.contains(&299), "tokens of one text");
            grammar.accept(byte.into()).expect("within the bounds");
        }
    }
}

#[test]
fn a_text_that_is_continued_behind_its_end_may_end_again() {
    for compiled in [
        compile_gbnf("root ::= \"12\"").expect("a grammar"),
        compile_schema(&serde_json::json!({"const": 12}), true).expect("a schema"),
    ] {
        let mut grammar = Grammar::new(compiled);
        for token in [49, 50, END, END, END] {
            assert_eq!(grammar.allows(token), Ok(true));
            assert_eq!(grammar.accept(token), Ok(()));
        }
    }
}

#[test]
fn a_reset_begins_a_text_anew() {
    for compiled in [
        compile_gbnf("root ::= \"ab\"").expect("a grammar"),
        compile_schema(&serde_json::json!({"const": 12}), true).expect("a schema"),
    ] {
        let mut grammar = Grammar::new(compiled);
        let before = masked(&mut grammar);
        grammar.accept(before[0]).expect("within the bounds");
        assert_ne!(masked(&mut grammar), before);
        grammar.reset();
        assert_eq!(masked(&mut grammar), before);
    }
}
