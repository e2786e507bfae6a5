//! Personas and references in a session: what each reads, what is evaluated, and what that costs.

use std::path::{Path, PathBuf};

use genarm::chat::Message;
use genarm::config::{Config, Overrides};
use genarm::session::Session;
use genarm::{Expert, Flow};
use tempfile::TempDir;

use super::{smollm2, write};

/// A base with a chat template, and a session on it with these ARMs.
fn session(arms: &str, more: &str) -> (TempDir, Session) {
    let folder = tempfile::tempdir().expect("a folder");
    let vocabulary = smollm2();
    write(&folder.path().join("base.gguf"), &vocabulary, 1);
    write(&folder.path().join("other.gguf"), &vocabulary, 2);
    let yaml =
        format!("base: {{model: base.gguf, n_ctx: 256, threads: 1}}\narms: {{{arms}}}\nspeculate: \"off\"\n{more}\n");
    let config =
        Config::parse(&yaml, &folder.path().join("prefs.yaml"), &Overrides::default()).expect("a configuration");
    let session = Session::open(config, &mut |_, _| true).expect("a session");
    (folder, session)
}

fn generate(session: &mut Session, prompt: &genarm::Prompt, n: usize) -> Vec<genarm::Token> {
    let sampling = genarm::sampling::params::SamplingParams { temp: 0.0, ignore_eos: true, ..Default::default() };
    let mut sampler = session.sampler(&sampling).expect("a sampler");
    let written = session.generate(&mut sampler, prompt, n, &mut |_| Flow::Continue);
    written.expect("a text").tokens
}

#[test]
fn a_persona_reads_its_system_prompt_in_place_of_the_conversations() {
    let (_folder, session) = session("kind: {system: Be kind.}", "");
    let text = |system: Option<&str>| {
        let system = system.map(|text| Message::new("system", text));
        let messages: Vec<_> = system.into_iter().chain([Message::new("user", "Hi")]).collect();
        session.prompts().chat(&messages, "").expect("a prompt")
    };
    let under = text(Some("Be kind.")).base;
    assert_eq!(text(Some("Be brief.")).experts, [Some(under.clone())], "it is replaced");
    assert_eq!(text(None).experts, [Some(under)], "it is added");
    assert_eq!(text(Some("Be kind.")).experts, [None], "the same prompt is read once");
}

#[test]
fn before_a_plain_text_a_persona_reads_its_prefix_and_then_the_bases_tokens() {
    let (_folder, session) = session("a: {prefix: Merry and bright.}, b: {system: Be kind.}", "");
    let vocab = session.vocab();
    let prompt = session.text_prompt(" One day").expect("a prompt");
    let [a, b] = &prompt.experts[..] else { panic!("two experts") };
    assert_eq!(vocab.text(a.as_ref().expect("own tokens"), true), "Merry and bright. One day");
    assert_eq!(vocab.text(b.as_ref().expect("own tokens"), true), "Be kind.\n\n One day");
    assert_eq!(session.token_prompt(prompt.base.clone()).expect("a prompt"), prompt, "tokens are read in the same way");
    let (scored, _) = session.prompts().text_response(" One day", " it").expect("a prompt");
    assert_eq!(scored.experts, prompt.experts, "and so is what is scored");
}

#[test]
fn at_weight_one_a_persona_is_the_base_under_its_prompt() {
    let (_folder, mut session) = session("kind: {system: Be kind.}", "share_batch: \"off\"");
    let messages = |system: &str| [Message::new("system", system), Message::new("user", "Hi")];
    let plain = session.prompts().chat(&messages("Be brief."), "").expect("a prompt");
    let under = session.prompts().chat(&messages("Be kind."), "").expect("a prompt");
    let guided = generate(&mut session, &plain, 12);
    session.weights().set("kind", 0.0).expect("a weight");
    assert_eq!(guided, generate(&mut session, &under, 12));
    let mut row = |prompt: &genarm::Prompt| session.base().advance(&prompt.base, 1).expect("a row").to_vec();
    assert_ne!(row(&plain), row(&under), "the prompts matter");
}

#[test]
fn a_reference_to_the_base_and_equal_experts_cost_no_evaluation() {
    let arms = "a: {model: other.gguf, reference: base}, b: {model: other.gguf, reference: {model: base.gguf}, weight: 0.5}, \
        itself: {model: base.gguf, weight: 0.25}";
    let (_folder, mut session) = session(arms, "");
    let prompt = session.text_prompt("Once upon a time").expect("a prompt");
    assert_eq!(prompt.experts.len(), 1, "three ARMs, one expert");
    let n = generate(&mut session, &prompt, 8).len();
    let read = (prompt.base.len() + n - 1) as u64;
    let of_experts = session.hook().with_guide(|guide| guide.n_decoded());
    assert_eq!((session.base().n_decoded(), of_experts), (read, read));
}

#[test]
fn a_persona_on_the_bases_file_is_one_row_of_its_batch() {
    let (_folder, mut session) = session("kind: {system: Be kind.}, brief: {system: Be brief.}", "share_batch: \"on\"");
    assert!(session.shared().iter().any(|group| group.shared && group.experts.len() == 3), "{:?}", session.shared());
    let prompt = session.prompts().chat(&[Message::new("user", "Hi")], "").expect("a prompt");
    generate(&mut session, &prompt, 1);
    let before = session.base().n_batches();
    generate(&mut session, &prompt, 9);
    // The first row of the second text is there already.
    let n = session.base().n_batches() - before;
    assert!((8..=9).contains(&n), "9 tokens of three experts in {n} batches");
}

#[test]
fn a_place_for_a_persona_is_filled_by_a_request_and_costs_nothing_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = PathBuf::from(crate::support::binary::model("base.gguf"));
    let yaml = format!("base: {{model: {}, n_ctx: 128, threads: 1}}\nspeculate: \"off\"\n", base.display());
    let config = Config::parse(&yaml, Path::new("prefs.yaml"), &Overrides::default()).expect("a configuration");
    let mut session = Session::open(config.with_spare_personas(2), &mut |_, _| true).expect("a session");
    drop(folder);
    assert_eq!(session.weights().get(), [0.0, 0.0]);
    let plain = session.text_prompt("One day").expect("a prompt");
    assert_eq!(plain.experts, [None, None]);
    generate(&mut session, &plain, 4);
    assert_eq!(session.hook().with_guide(|guide| guide.n_decoded()), 0);
    let filled = session.prompts().with_personas(&["They laughed."]).text("One day").expect("a prompt");
    assert!(filled.experts[0].is_some() && filled.experts[1].is_none());
    session.weights().set("persona 1", 1.5).expect("its name");
    generate(&mut session, &filled, 4);
    assert!(session.hook().with_guide(|guide| guide.n_decoded()) > 0);
}
