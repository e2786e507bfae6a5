//! An ARM that acts on responses alone, in conversations: what it decodes, and that every way of reading gives the same
//! text.

use genarm::chat::Message;
use genarm::config::{Config, Overrides};
use genarm::guidance::score::{ScoredPrompts, score};
use genarm::sampling::params::SamplingParams;
use genarm::session::Session;
use genarm::{Expert, Flow, Prompt, Token};
use tempfile::TempDir;

use super::{smollm2, write};
use crate::support::random;

fn session(more: &str) -> (TempDir, Session) {
    let folder = tempfile::tempdir().expect("a folder");
    let vocabulary = smollm2();
    let path = |name: &str| folder.path().join(name);
    write(&path("base.gguf"), &vocabulary, 1);
    random::lora_on(&path("base.gguf"), &path("arm.gguf"), 3, 0.4, "response");
    let yaml = format!(
        "base: {{model: base.gguf, n_ctx: 512, threads: 1, cache_type_k: f32, cache_type_v: f32, flash_attn: \"off\"}}\n\
         arms: {{a: {{lora: [{{path: arm.gguf}}], weight: 2}}}}\nspeculate: \"off\"\n{more}\n"
    );
    let config = Config::parse(&yaml, &path("prefs.yaml"), &Overrides::default()).expect("a configuration");
    let session = Session::open(config, &mut |_, _| true).expect("a session");
    (folder, session)
}

fn generate(session: &mut Session, prompt: &Prompt, n: usize) -> Vec<Token> {
    let sampling = SamplingParams { temp: 0.0, ignore_eos: true, ..SamplingParams::default() };
    let mut sampler = session.sampler(&sampling).expect("a sampler");
    session.generate(&mut sampler, prompt, n, &mut |_| Flow::Continue).expect("a text").tokens
}

fn of_arm(session: &Session) -> u64 {
    session.hook().with_guide(|guide| guide.n_decoded())
}

#[test]
fn a_conversation_is_read_once_and_each_turn_costs_the_arm_the_header_and_its_answer() {
    let (_folder, mut session) = session("share_batch: \"on\"");
    let mut messages =
        vec![Message::new("system", "You are kind."), Message::new("user", "Tell me of the sea. ".repeat(8))];
    for turn in 1..=3 {
        let prompt = session.prompts().chat(&messages, "").expect("a prompt");
        assert!(prompt.base.len() > 40, "{}", prompt.base.len());
        let (base, arm) = (session.base().n_decoded(), of_arm(&session));
        let text = generate(&mut session, &prompt, 6);
        // `<|im_start|>assistant` and a line break, in bytes where the vocabulary has no more, and all tokens but the
        // last.
        let header = prompt.base.len() - session.vocab().response_start(&prompt.base);
        assert!((2..20).contains(&header), "{header}");
        assert_eq!(of_arm(&session) - arm, (header + 5) as u64, "turn {turn}");
        assert!(session.base().n_decoded() - base >= 6);
        messages.push(Message::new("assistant", session.vocab().text(&text, false)));
        messages.push(Message::new("user", "And then?"));
    }
}

#[test]
fn in_a_context_of_its_own_in_slots_and_in_scores_the_arm_is_the_same() {
    let texts = ["share_batch: \"on\"", "share_batch: \"off\""].map(|more| {
        let (_folder, mut session) = session(more);
        let messages = [Message::new("user", "Tell me of the sea, and of the ships that cross it in winter.")];
        let prompt = session.prompts().chat(&messages, "").expect("a prompt");
        let text = generate(&mut session, &prompt, 16);
        // Scored in one go, each token is the likeliest under the same guidance.
        let hook = session.hook().clone();
        let prompts = ScoredPrompts::new(&prompt.base, &prompt.experts);
        let scores = hook.with_guide(|guide| score(session.base(), guide, prompts, &text, &[2.0])).expect("scores");
        let best: Vec<Token> = scores.iter().map(|token| token.guided_best).collect();
        assert_eq!(best, text, "{more}");
        assert!(scores.iter().any(|token| token.flipped()), "the ARM must matter");
        // In pieces, as the server scores, it is the same response.
        for (done, whole) in scores.iter().enumerate().step_by(5) {
            let before = [&prompt.base[..], &text[..done]].concat();
            let experts: Vec<_> = prompt.experts.iter().map(|_| None).collect();
            let prompts = ScoredPrompts { base: &before, experts: &experts, n_done: done };
            let piece = &text[done..=done];
            let score = hook.with_guide(|guide| score(session.base(), guide, prompts, piece, &[2.0])).expect("a score");
            assert!((score[0].arms[0] - whole.arms[0]).abs() < 1e-3, "{done}: {} {}", score[0].arms[0], whole.arms[0]);
        }
        // After other texts, and again.
        let other = session.prompts().chat(&[Message::new("user", "Hi")], "").expect("a prompt");
        generate(&mut session, &other, 4);
        assert_eq!(generate(&mut session, &prompt, 16), text, "{more}");
        text
    });
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn the_bases_own_adapter_acts_on_everything() {
    let (folder, session) = session("");
    drop(session);
    let path = folder.path().join("prefs.yaml");
    let yaml = "base: {model: base.gguf, lora: [{path: arm.gguf}]}\n";
    let config = Config::parse(yaml, &path, &Overrides::default()).expect("a configuration");
    let error = Session::open(config, &mut |_, _| true).err().expect("a refusal").to_string();
    assert!(error.contains("arm.gguf") && error.contains("not the base's own"), "{error}");
}
