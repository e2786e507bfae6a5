//! What follows a restored text is what would have followed it.

use genarm::sampling::params::SamplingParams;
use genarm::session::{Caches, Session};
use genarm::{Flow, Token};
use tempfile::TempDir;

use super::{model, open, tokens};
use crate::support::random;

/// Tokens of a prompt, and of its answer.
const PROMPT: usize = 1960;
const ANSWER: usize = 40;

/// Configurations with every way to hold a text: by name.
fn families(folder: &TempDir) -> Vec<(&'static str, String)> {
    let base = model("models/base.gguf");
    let response = folder.path().join("response.gguf");
    random::lora_on(base.as_ref(), &response, 3, 0.1, "response");
    let response = response.display();
    let [stories, cheerful] = ["tests/models/stories260K.gguf", "tests/models/arm-cheerful.gguf"].map(model);
    let (lora, small, plain) =
        (model("models/arm-cheerful.gguf"), model("models/small.gguf"), model("models/arm-plain.gguf"));
    let family = |base: &str, arms: String, more: &str| {
        format!("base: {{model: {base}, n_ctx: 4096, threads: 1}}\narms: {{{arms}}}\n{more}\n")
    };
    let own = |name: &str, path: &dyn std::fmt::Display| format!("{name}: {{model: {base}, lora: [{{path: {path}}}]}}");
    let backbone = format!("plain: {{model: {small}, lora: [{{path: {plain}}}]}}");
    vec![
        ("the base alone", family(&stories, String::new(), "speculate: \"off\"")),
        ("contexts of their own", family(&stories, format!("a: {{model: {cheerful}}}"), "speculate: \"off\"")),
        ("a shared batch", family(&base, own("a", &lora), "speculate: \"off\"\nshare_batch: \"on\"")),
        (
            "an adapter on responses",
            family(&base, [own("a", &response), own("b", &lora)].join(", "), "speculate: \"off\"\nshare_batch: \"on\""),
        ),
        (
            "an adapter on responses alone",
            family(&base, own("a", &response), "speculate: \"off\"\nshare_batch: \"off\""),
        ),
        ("a drafter", family(&base, backbone, "speculate: backbone")),
    ]
}

fn generate(session: &mut Session, history: &[Token], n: usize, temp: f32) -> Vec<Token> {
    let params = SamplingParams { temp, seed: 7, ignore_eos: true, ..Default::default() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.token_prompt(history.to_vec()).expect("tokens");
    session.generate(&mut sampler, &prompt, n, &mut |_| Flow::Continue).expect("a text").tokens
}

/// Tokens that base and ARMs have decoded.
fn decoded(session: &mut Session) -> Vec<u64> {
    let base = session.n_decoded();
    let of_arms =
        session.hook().with_guide(|guide| guide.experts().iter_mut().map(|arm| arm.expert().n_decoded()).collect());
    std::iter::once(base).chain::<Vec<_>>(of_arms).collect()
}

#[test]
fn a_text_of_two_thousand_tokens_goes_on_without_being_read_again() {
    goes_on(0.0);
}

#[test]
fn a_text_that_is_drawn_goes_on_under_its_seed() {
    goes_on(0.9);
}

fn goes_on(temp: f32) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("text.cache");
    for (name, yaml) in families(&folder) {
        let mut first = open(&yaml);
        let mut history = tokens(5, PROMPT);
        history.extend(generate(&mut first, &tokens(5, PROMPT), ANSWER, temp));
        assert_eq!(history.len(), 2000, "{name}");
        first.save_caches().expect("caches").write(&file).expect("written");
        history.extend(tokens(9, 20));
        let expected = generate(&mut first, &history, 24, temp);

        let mut second = open(&yaml);
        second.restore_caches(&Caches::read(&file).expect("caches")).expect("they fit");
        let found = generate(&mut second, &history, 24, temp);
        assert_eq!(found, expected, "{name} at temperature {temp}");
        // The last token of the answer, the new ones, and the next answer; drafts may be read for nothing.
        let bound = match name {
            "a drafter" => 150,
            // The answer is a part of the next prompt, which it reads without its adapter.
            "an adapter on responses alone" => ANSWER as u64 + 1 + 20 + 23,
            _ => 1 + 20 + 23,
        };
        let decoded = decoded(&mut second);
        assert!(decoded.iter().all(|n| *n <= bound), "{name}: {decoded:?}");
    }
}

#[test]
fn saving_again_what_was_restored_gives_the_same_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
    let (_, yaml) = families(&folder).swap_remove(3);
    let mut session = open(&yaml);
    generate(&mut session, &tokens(5, 200), 8, 0.0);
    session.save_caches().expect("caches").write(&first).expect("written");
    let mut session = open(&yaml);
    session.restore_caches(&Caches::read(&first).expect("caches")).expect("they fit");
    session.save_caches().expect("caches").write(&second).expect("written");
    assert!(std::fs::read(&first).expect("a file") == std::fs::read(&second).expect("a file"));
}
