//! Against `golden.json`, which `scripts/golden-templates` makes with transformers.

use genarm::chat::{ChatTemplate, Message};
use serde::Deserialize;

use super::{byte_pairs, open, template};

#[derive(Deserialize)]
struct Golden {
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    bos: Option<String>,
    eos: String,
    control: Vec<String>,
    /// Tokens that are not special, such as `<think>`.
    plain: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    text: Option<String>,
    ids: Option<Vec<genarm::Token>>,
    error: Option<String>,
}

#[test]
fn every_family_renders_and_tokenises_as_in_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("golden.json")).expect("the golden file");
    assert!(golden.families.len() >= 16);
    let mut n_texts = 0;
    for family in &golden.families {
        let source = template(&family.name);
        let control: Vec<&str> = family.control.iter().map(String::as_str).collect();
        let plain: Vec<&str> = family.plain.iter().map(String::as_str).collect();
        let id = |text: &String| {
            let at = family.control.iter().position(|token| token == text).expect("a control token");
            u32::try_from(2048 + at).expect("an id")
        };
        // A model whose template writes BOS wants one; it must not get two.
        let begins = source.contains("bos_token");
        let mut vocabulary = byte_pairs(&control, &plain)
            .with("tokenizer.ggml.eos_token_id", id(&family.eos))
            .with("tokenizer.ggml.add_bos_token", begins)
            .with("tokenizer.chat_template", &*source);
        if let Some(bos) = &family.bos {
            vocabulary = vocabulary.with("tokenizer.ggml.bos_token_id", id(bos));
        }
        let model = open(&vocabulary);
        let vocab = model.vocab();
        let template = ChatTemplate::of_model(model.file().chat_template().expect("a template"));
        for (i, case) in family.cases.iter().enumerate() {
            let name = format!("{} {i}", family.name);
            let rendered = template.write(&case.messages, &vocab);
            match (&case.text, rendered) {
                (Some(text), Ok(rendered)) => {
                    assert_eq!(rendered.text(), text, "{name}");
                    let ids = rendered.tokens(&vocab).expect("tokens");
                    assert_eq!(Some(&ids), case.ids.as_ref(), "{name}");
                    n_texts += 1;
                }
                (None, Err(error)) => {
                    let theirs = case.error.as_deref().expect("a text or an error");
                    assert!(error.to_string().contains(theirs), "{name}: {error} / {theirs}");
                }
                (theirs, ours) => panic!("{name}: {ours:?} / {theirs:?}"),
            }
        }
    }
    assert!(n_texts > 100, "{n_texts}");
}
