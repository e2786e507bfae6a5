//! Translation is asked for, and refused where nothing can come of it.

use super::{arm, base, greedy, kind};
use crate::support::binary::{failure, genarm, model, stdout};
use crate::support::vocabularies::{bpe_model, few_model, wordpiece_model};

#[test]
fn an_arm_of_another_vocabulary_is_refused_with_what_to_do() {
    let (line, code) = failure(&greedy(&base(), &["--arm", &kind("1")]));
    assert_eq!(code, Some(1));
    assert!(line.contains("the vocabularies differ in"), "{line}");
    assert!(
        line.ends_with("give --translate kind, or `vocabulary: translate` in the file, to guide across vocabularies"),
        "{line}"
    );
}

#[test]
fn an_arm_of_another_vocabulary_changes_the_text_when_it_is_asked_for() {
    let (base, given) = (base(), kind("1"));
    let alone = stdout(&greedy(&base, &[]));
    let guided = stdout(&greedy(&base, &["--arm", &given, "--translate", "kind"]));
    assert_ne!(guided, alone);
    let without = stdout(&greedy(&base, &["--arm", &kind("0"), "--translate", "kind"]));
    assert_eq!(without, alone, "an ARM without weight");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.yaml");
    let yaml = format!("base: {base}\narms: {{kind: {{model: {}, vocabulary: translate}}}}\n", arm("cheerful"));
    std::fs::write(&file, yaml).expect("written");
    let file = file.display().to_string();
    assert_eq!(stdout(&["generate", "-f", &file, "--temp", "0", "-n", "24", "-t", "1", super::PROMPT]), guided);
}

#[test]
fn the_larger_vocabulary_guides_the_smaller() {
    let (base, given) = (crate::support::models().base.display().to_string(), model("arm-talkative.gguf"));
    let given = format!("talkative={given}:1.5");
    let guided = stdout(&greedy(&base, &["--arm", &given, "--translate", "talkative"]));
    assert_ne!(guided, stdout(&greedy(&base, &[])));
}

#[test]
fn where_the_vocabulary_is_the_bases_translation_is_not_needed_and_changes_nothing() {
    let (base, given) = (base(), format!("talkative={}", model("arm-talkative.gguf")));
    let folder = tempfile::tempdir().expect("a folder");
    let args = greedy(&base, &["--arm", &given]);
    let output = genarm(&[&args[..], &["--translate", "talkative"]].concat())
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout(&args));
    assert!(!folder.path().join("genarm/lexicons").exists(), "no vocabularies were compared");
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    let (line, code) = failure(&greedy(&base(), &["--arm", &kind("1"), "--translate", "knid"]));
    assert_eq!((line.as_str(), code), ("error: --translate: unknown ARM \"knid\"; did you mean \"kind\"?", Some(2)));
}

#[test]
fn an_arm_that_cannot_be_translated_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    wordpiece_model(&path("wordpiece.gguf"));
    few_model(&path("few.gguf"));
    for (file, reason) in [
        ("wordpiece.gguf", "its tokenizer (bert) changes the texts that it reads"),
        ("few.gguf", "it has no token for '!'"),
    ] {
        let (base, given) = (base(), format!("a={}", path(file).display()));
        let (line, _) = failure(&greedy(&base, &["--arm", &given]));
        assert!(line.ends_with(&format!("nor can it be translated: {reason}")), "{line}");
        let (line, _) = failure(&greedy(&base, &["--arm", &given, "--translate", "a"]));
        assert!(line.ends_with(&format!("across vocabularies: {reason}")), "{line}");
    }
}

#[test]
fn markup_that_an_arm_lacks_is_refused_with_the_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base.gguf");
    bpe_model(&base, "llama-bpe");
    let (base, given) = (base.display().to_string(), kind("1"));
    let ask = |prompt: &str, more: &[&str]| {
        let args = ["generate", "--base", &base, "--arm", &given, "--translate", "kind", "--temp", "0", "-n", "2"];
        failure(&[&args[..], more, &["--", prompt]].concat()).0
    };
    let line = ask("hello<|end|>world", &[]);
    let advice = "the ARM has no chat template: give it `template:` in the configuration";
    assert_eq!(line, format!("error: ARM \"kind\" lacks <|end|>, which is in the prompt; {advice}"));
    let template = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}";
    assert!(ask("hello", &["--chat", "--chat-template", template]).ends_with(advice));
}
