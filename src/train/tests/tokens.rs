//! The demo models' tokenizer means the same to llama.cpp and to the `tokenizers` crate.

use super::*;
use crate::engine::gguf::{Array, GgufFile, Value};
use crate::train::tokens::vocabulary;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

#[test]
fn llama_cpp_and_the_tokenizers_crate_split_text_alike() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("models/base.gguf");
    let file = GgufFile::open(&path).unwrap();
    let strings = |key: &str| -> Vec<String> {
        let Some(Value::Array(Array::Strings(list))) = file.get(key) else { panic!("{key}") };
        list.iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    };
    let vocab: std::collections::BTreeMap<String, u32> =
        strings("tokenizer.ggml.tokens").into_iter().zip(0u32..).collect();
    let json = serde_json::json!({"type": "BPE", "vocab": vocab, "merges": strings("tokenizer.ggml.merges")});
    let bpe: BPE = serde_json::from_str(&json.to_string()).unwrap();
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let gguf = vocabulary(&path).unwrap();
    let odd = [
        "It's  a 3-day trip!\n\n\"Wow,\" she'd said…",
        "  über naïve\t\t日本語 🙂 x_y",
        "\n\n \n a",
        "I'LL 12345 don't",
    ];
    let mut texts: Vec<String> = odd.map(String::from).to_vec();
    let prompts = std::fs::read_to_string(root.join("models/prompts.jsonl")).unwrap();
    texts.extend(prompts.lines().map(|l| {
        let value: serde_json::Value = serde_json::from_str(l).unwrap();
        value["prompt"].as_str().unwrap().to_string()
    }));
    for document in ["README.md", "docs/training.md", "docs/server.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        texts.extend(text.lines().map(String::from));
    }
    for text in texts.iter().filter(|t| !t.is_empty()) {
        let want: Vec<i32> =
            tokenizer.encode(text.as_str(), false).unwrap().get_ids().iter().map(|t| *t as i32).collect();
        assert_eq!(gguf.tokenize(text, false, false).unwrap(), want, "{text:?}");
    }
}

#[test]
fn a_sentencepiece_prompt_is_cut_where_the_response_begins() {
    let tokens = vocabulary(&small_llama()).unwrap();
    let template = crate::train::render::template("none", None).unwrap();
    for name in ["sp0.jsonl", "sp1.jsonl"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/cases").join(name);
        let row: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let wire = Wire {
            backbone: Some("b".into()),
            pairs: Some(vec![path.into()]),
            out: Some("o".into()),
            ..Wire::default()
        };
        let (examples, _) = crate::train::pairs::load(&settings(wire), &tokens, &template, 64).unwrap();
        let [example] = &examples[..] else { panic!("one pair") };
        for (response, ids) in [(text("chosen"), &example.chosen), (text("rejected"), &example.rejected)] {
            let whole = tokens.tokenize(&(text("prompt") + &response), true, false).unwrap();
            let read: Vec<i32> = example.prompt.iter().chain(ids).map(|id| *id as i32).collect();
            // The response ends with the end of the text.
            assert_eq!(read[..read.len() - 1], whole, "{name}: what llama.cpp makes of {response:?}");
        }
    }
}
