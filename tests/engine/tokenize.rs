//! Texts of every kind have llama.cpp's own tokens, and no text ends the process.

use std::path::Path;

use genarm::engine::llama::{Bound, TokenizeError, Vocab, bounded};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use crate::support::load;
use crate::support::vocabularies::{bpe_model, spm_model};

/// One pre-tokenizer of each that llama.cpp knows, by the names in GGUF files.
const PRE_TOKENIZERS: [&str; 47] = [
    "default",
    "llama-bpe",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "falcon",
    "mpt",
    "starcoder",
    "gpt-2",
    "jais-2",
    "gemma4",
    "refact",
    "command-r",
    "qwen2",
    "qwen35",
    "stablelm2",
    "olmo",
    "dbrx",
    "smaug-bpe",
    "poro-chat",
    "chatglm-bpe",
    "viking",
    "jais",
    "tekken",
    "smollm",
    "codeshell",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "exaone-moe",
    "chameleon",
    "minerva-7b",
    "gpt-4o",
    "granite-embed-multi-97m",
    "tiny_aya",
    "superbpe",
    "trillion",
    "bailingmoe",
    "seed-coder",
    "hunyuan",
    "hunyuan-dense",
    "kimi-k2",
    "ufakzeka",
    "grok-2",
    "afmoe",
    "minimax-m2",
    "youtu",
];

/// Texts that pre-tokenizers take for one word.
const RUNS: [&str; 16] =
    ["a", "A", "aA", "1", " ", "\n", "\r\n", "\t", "=", "aB3+", "\u{301}", "e\u{301}", "😀", "一", "\u{a0}", "'s"];

/// Text as people and programs write it, with a bit of everything.
const MIXED: &str = "Hello world, hello  hello! It's 1234567 o'clock.\n\nDon't\tworry:\r\n  aaaa AAAA aAaA == ==== \u{a0}x 一二三、四。\
                     e\u{301}e\u{301} 😀😀 <|end|>hello<s> ##h## (a) [b] a b c d\n\n\n\nword word\nWord  \n x1 22 333 4444 ...\n";

/// The same in which no token is named, so that it is cut by words only. llama.cpp compiles its regular expressions
/// anew for each stretch between named tokens.
const PLAIN: &str = "Hello world, hello  hello! It's 1234567 o'clock.\n\nDon't\tworry:\r\n  aaaa AAAA aAaA == ==== \u{a0}x 一二三、四。\
                     e\u{301}e\u{301} 😀😀 (a) [b] a b c d\n\n\n\nword word\nWord  \n x1 22 333 4444 ...\n";

/// What llama.cpp itself makes of a text, on a stack that is large enough.
fn expected(path: &Path, texts: &[String]) -> Vec<[Vec<i32>; 2]> {
    let read = || {
        let backend = genarm::engine::llama::backend().expect("llama.cpp starts");
        let model = LlamaModel::load_from_file(backend, path, &LlamaModelParams::default()).expect("it loads");
        let vocab = model.vocab();
        let tokens =
            |text: &String, special| vocab.tokenize(text.as_bytes(), special, special).iter().map(|t| t.0).collect();
        texts.iter().map(|text| [tokens(text, false), tokens(text, true)]).collect()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(256 << 20).spawn_scoped(scope, read).expect("a thread");
        thread.join().expect("tokens")
    })
}

fn read(vocab: &Vocab, text: &str) -> [Vec<i32>; 2] {
    [false, true].map(|special| vocab.tokenize(text, special, special).unwrap_or_else(|e| panic!("{e}")))
}

/// Texts that are short, and texts that are cut: of runs, of words, and of runs between words.
fn texts() -> Vec<String> {
    let mut texts = vec![String::new(), " ".into(), "a".into(), MIXED.into(), MIXED.repeat(8), PLAIN.repeat(120)];
    for run in RUNS {
        texts.push(run.repeat(3));
        texts.push(run.repeat(600 / run.len()));
        texts.push(format!("{} {}word ", run.repeat(40), run.repeat(7)).repeat(9_000 / (47 * run.len() + 6) + 9));
    }
    texts.push("hello world ".repeat(1_500));
    texts.push("line\nhello. line\n".repeat(1_000));
    texts
}

fn compare(path: &Path, name: &str) {
    let texts = texts();
    let vocab = load(path).vocab();
    for (text, expected) in texts.iter().zip(expected(path, &texts)) {
        let found = read(&vocab, text);
        let start: String = text.chars().take(60).collect();
        assert!(found == expected, "{name}: {} bytes from {start:?} have other tokens", text.len());
    }
}

#[test]
fn every_pre_tokenizer_gives_llama_cpps_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    for pre in PRE_TOKENIZERS {
        let path = folder.path().join(format!("{pre}.gguf"));
        bpe_model(&path, pre);
        compare(&path, pre);
    }
}

#[test]
fn a_sentencepiece_vocabulary_gives_llama_cpps_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spm.gguf");
    spm_model(&path);
    compare(&path, "spm");
}

/// Pre-tokenizers for which llama.cpp calls itself for each character of a word.
const DEEP: [&str; 8] =
    ["tekken", "gpt-4o", "falcon", "deepseek-llm", "deepseek-coder", "deepseek-v3", "bloom", "seed-coder"];

#[test]
fn runs_of_hundreds_of_thousands_of_characters_are_read_on_a_thread_with_a_small_stack() {
    let folder = tempfile::tempdir().expect("a folder");
    for pre in DEEP {
        let path = folder.path().join(format!("{pre}.gguf"));
        bpe_model(&path, pre);
        let vocab = load(&path).vocab();
        let read = || {
            // Runs of spaces are refused there, as is tested below.
            for run in RUNS.iter().filter(|run| pre != "deepseek-llm" || run.trim() == **run || run.ends_with('\n')) {
                let text = run.repeat(200_000 / run.len());
                let tokens = vocab.tokenize(&text, false, false).unwrap_or_else(|e| panic!("{pre}: {run:?}: {e}"));
                assert_eq!(vocab.text(&tokens, true), text, "{pre}: {run:?}");
            }
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, read).expect("a thread");
            thread.join().expect("the thread ends well");
        });
    }
}

#[test]
fn a_text_with_a_hundred_thousand_control_tokens_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spm.gguf");
    spm_model(&path);
    let vocab = load(&path).vocab();
    let token = |text| vocab.tokenize(text, false, true).expect("tokens")[0];
    let (five, s) = (token("<unused5>"), token("<s>"));
    let tokens = vocab.tokenize(&"<unused5><s>".repeat(50_000), false, true).expect("tokens");
    assert_eq!(tokens.len(), 100_000);
    assert!(tokens.chunks(2).all(|pair| pair == [five, s]));
    let breaks = vocab.tokenize(&"\n".repeat(1_000_003), false, false).expect("tokens");
    assert_eq!(breaks.len(), 125_001);
}

#[test]
fn runs_that_take_quadratic_time_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    for (pre, run) in [("deepseek-llm", " "), ("superbpe", "1")] {
        let path = folder.path().join(format!("{pre}.gguf"));
        bpe_model(&path, pre);
        let vocab = load(&path).vocab();
        let error = vocab.tokenize(&(run.repeat(500_000) + "一"), false, false).expect_err("it would take hours");
        assert!(matches!(error, TokenizeError::Run { n_characters: 500_000, .. }), "{error}");
        assert!(error.to_string().contains("put spaces or line breaks into it"), "{error}");
        vocab.tokenize(&run.repeat(3_000), false, false).expect("ordinary text is read");
    }
}

#[test]
fn a_run_beyond_every_bound_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tekken.gguf");
    bpe_model(&path, "tekken");
    let error = load(&path).vocab().tokenize(&"a".repeat(5_000_000), false, false).expect_err("no stack for it");
    assert!(matches!(error, TokenizeError::Run { n_characters: 5_000_000, .. }), "{error}");
}

#[test]
fn a_text_that_cannot_fit_is_refused_before_it_is_read_and_after_the_tokens_that_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bpe.gguf");
    bpe_model(&path, "llama-bpe");
    let vocab = load(&path).vocab();
    let within = |max_tokens, text: &str| {
        let bound = Bound { max_tokens, cancelled: Box::new(|| false) };
        bounded(bound, || vocab.tokenize(text, false, true))
    };
    let fits = within(256, &"hello ".repeat(100)).expect("it fits");
    assert_eq!(fits, vocab.tokenize(&"hello ".repeat(100), false, true).expect("tokens"));
    // The longest token has 7 bytes, so that so many bytes have more tokens.
    let refused = |text: &str| match within(256, text) {
        Err(TokenizeError::TooMany { at_least, max: 256 }) => at_least,
        other => panic!("{other:?}"),
    };
    assert!(refused(&"a".repeat(10_000_000)) > 1_000_000, "it was counted by its length");
    assert!(refused(&"<|end|>".repeat(1_000)) > 256);
    assert!(refused(&"x, ".repeat(400)) > 256);
    assert!(vocab.tokenize(&"<|end|>".repeat(1_000), false, true).is_ok(), "the bound has ended");
}

#[test]
fn reading_stops_where_nothing_waits_for_the_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bpe.gguf");
    bpe_model(&path, "tekken");
    let vocab = load(&path).vocab();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    let cancelled = Box::new(move || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 5);
    let bound = Bound { max_tokens: usize::MAX, cancelled };
    let result = bounded(bound, || vocab.tokenize(&"hello world ".repeat(100_000), false, false));
    assert_eq!(result, Err(TokenizeError::Cancelled));
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 6, "it went on");
}
