//! What is said of files before anything is guided.

use serde_json::Value;

use super::{arm, base};
use crate::support::binary::{json, model, stdout};
use crate::support::vocabularies::few_model;

#[test]
fn inspect_says_what_a_translation_would_take() {
    let text = stdout(&["inspect", &base(), &arm("cheerful")]);
    assert!(text.contains("translatable: the vocabularies differ in"), "{text}");
    assert!(text.contains("give --translate NAME, or `vocabulary: translate` in a configuration"), "{text}");
    let found = &json(&["inspect", "--json", &base(), &arm("cheerful")])[1];
    let number = |name: &str| found["translation"][name].as_f64().unwrap_or_else(|| panic!("{found}"));
    assert_eq!(found["fits_first"], false);
    assert!(number("same_bytes") > 0.05 && number("same_bytes") < 0.5, "{found}");
    assert!(number("same_bytes_in_use") > number("same_bytes"), "what they share is in use");
    assert!(number("arm_tokens_per_token") > 1.0, "the ARM has fewer tokens");
    assert!(number("step_ms") > 0.0);
}

#[test]
fn inspect_compares_on_the_users_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("digits.txt");
    std::fs::write(&file, "1 2 3 4 5").expect("written");
    let given = file.display().to_string();
    let used = |more: &[&str]| {
        let found = json(&[&["inspect", "--json"], more, &[&base(), &arm("cheerful")]].concat());
        found[1]["translation"]["same_bytes_in_use"].as_f64().expect("a share")
    };
    assert_ne!(used(&["--text", &given]), used(&[]));
}

#[test]
fn inspect_says_why_a_model_cannot_be_translated_and_needs_nothing_of_one_vocabulary() {
    let folder = tempfile::tempdir().expect("a folder");
    let few = folder.path().join("few.gguf");
    few_model(&few);
    let text = stdout(&["inspect", &base(), &few.display().to_string()]);
    assert!(text.contains("no: ") && text.contains("nor can it be translated: it has no token for '!'"), "{text}");
    let same = &json(&["inspect", "--json", &base(), &model("small.gguf")])[1];
    assert_eq!((&same["fits_first"], &same["translation"]), (&Value::Bool(true), &Value::Null));
}
