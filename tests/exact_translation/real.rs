//! Whether what counts as settled is so, with the tokenizers of real models.

use std::path::Path;

use genarm::Token;
use genarm::engine::llama::Model;

use super::reading::{CONTINUATIONS, Next, Reader, Reading};
use super::token_bytes::TokenBytes;

const TEXTS: [&str; 5] = [
    "Die Donaudampfschifffahrtsgesellschaft hat 1829 ihre Überfahrten begonnen; Straßen gab es kaum.",
    "L'été dernier, j'ai vu l'hôtel qu'elle m'avait décrit : « C'est là-bas », disait-elle, à 7 h 30.",
    "上海是中国最大的城市,也很繁荣。我们学习机器学习,价格是1234元。😊🎉 Привет, мир!",
    "def f(x):\n    if x < 0:\n        return -x\n\n\n    # a   comment\n\treturn [i**2 for i in range(10_000)]\n",
    "{\"name\": \"Anna\", \"age\": 31, \"tags\": [\"a\", \"b\"]}\n\n\n1. Don't!\n2. They've $1,234.50 -- (50%)...\n",
];

/// Reads every beginning of these texts as of a text that may go on, and compares with how it goes on.
fn check(model: &Path) {
    let vocab = Model::load_vocab(model).expect("a vocabulary").vocab();
    let piece = |token| {
        let mut bytes = Vec::new();
        vocab.piece(token, false, &mut bytes);
        bytes
    };
    let vocabulary = TokenBytes::new((0..vocab.n_tokens() as Token).map(piece).collect(), &[]);
    let spell = |text: &str| vocab.tokenize(text, false, false).ok();
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let paragraphs = readme.split_inclusive("\n\n").filter(|text| text.len() < 300).take(40);
    let (mut n_settled, mut n_open, mut wrong) = (0, 0, Vec::new());
    for text in paragraphs.chain(TEXTS) {
        let tokens = spell(text).expect("tokens");
        let mut start = 0;
        for at in 0..tokens.len() {
            let mut reader = Reader::new(&vocabulary, &spell, &tokens[..at], &CONTINUATIONS);
            for end in start + 1..text.len().min(start + 16) {
                match reader.read(&text.as_bytes()[..end]) {
                    Reading::Settled(next) if next == Next::Token(tokens[at]) => n_settled += 1,
                    Reading::Open(_) => n_open += 1,
                    reading => wrong.push((String::from_utf8_lossy(&text.as_bytes()[..end]).into_owned(), reading)),
                }
            }
            start += piece(tokens[at]).len();
        }
    }
    eprintln!("{n_settled} settled, {n_open} open, {} wrong: {wrong:#?}", wrong.len());
    assert!(n_settled > n_open, "{n_settled} settled, {n_open} open");
    assert!(wrong.len() * 2000 < n_settled, "{} of {n_settled} are wrong", wrong.len());
}

#[test]
#[ignore = "needs a real model: make test-real"]
fn what_is_settled_for_smollm2_stays_so() {
    check(&crate::real::smollm2());
}

#[test]
#[ignore = "needs a real model: make test-real"]
fn what_is_settled_for_gemma_stays_so() {
    check(&crate::real::gemma());
}
