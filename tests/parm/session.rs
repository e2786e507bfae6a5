//! Texts under preferences, in a session and through the sampler of a host.

use genarm::config::{Config, Overrides};
use genarm::sampling::params::SamplingParams;
use genarm::session::{Caches, Session};
use genarm::{Flow, Token};

use super::Folder;
use crate::support::parm::Order;

const PROMPT: &str = "Once upon a time";

impl Folder {
    fn open(&self, arms: &str, more: &str) -> Session {
        let file = self.path("prefs.yaml");
        let config = Config::parse(&self.yaml(arms, more), &file, &Overrides::default()).expect("a configuration");
        Session::open(config, &mut |_, _| true).expect("a session")
    }
}

/// A greedy text; `before` sees the number of each token before it is drawn, but for the first.
fn text(session: &mut Session, mut before: impl FnMut(usize)) -> Vec<Token> {
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..SamplingParams::default() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.prompts().text(PROMPT).expect("a prompt");
    let mut n = 0;
    let mut each = |_: genarm::decode::Step<'_>| {
        n += 1;
        before(n);
        Flow::Continue
    };
    session.generate(&mut sampler, &prompt, 24, &mut each).expect("a text").tokens
}

#[test]
fn a_text_under_preferences_is_that_of_an_adapter_folded_for_them() {
    let folder = Folder::new();
    for share_batch in ["share_batch: \"on\"", "share_batch: \"off\""] {
        let mut parm = folder.open("taste: {lora: parm.gguf, weight: 2}", share_batch);
        let mut texts = Vec::new();
        for alpha in [[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]] {
            folder.parm.write_folded(&folder.path("folded.gguf"), &alpha, Order::RowMajor);
            let expected = text(&mut folder.open("taste: {lora: folded.gguf, weight: 2}", share_batch), |_| {});
            parm.weights().set_all(&[2.0, alpha[0], alpha[1]]).expect("in range");
            assert_eq!(text(&mut parm, |_| {}), expected, "{share_batch}, {alpha:?}");
            texts.push(expected);
        }
        assert!(texts[0] != texts[1] && texts[1] != texts[2], "preferences matter");
    }
}

#[test]
fn a_preference_changed_during_a_text_acts_from_the_next_token_on() {
    let folder = Folder::new();
    for share_batch in ["share_batch: \"on\"", "share_batch: \"off\""] {
        let arms = "taste: {lora: parm.gguf, weight: 2, preferences: {helpful: 1}}";
        let mut session = folder.open(arms, share_batch);
        let before = text(&mut session, |_| {});
        let moved = |session: &mut Session| {
            let weights = session.weights().clone();
            weights.set("taste.helpful", 1.0).expect("in range");
            weights.set("taste.harmless", 0.0).expect("in range");
            text(session, |n| {
                if n == 5 {
                    weights.set("taste.helpful", 0.0).expect("in range");
                    weights.set("taste.harmless", 1.0).expect("in range");
                }
            })
        };
        let first = moved(&mut session);
        let common = before.iter().zip(&first).take_while(|(a, b)| a == b).count();
        assert!((5..24).contains(&common), "{share_batch}: the texts part after {common} tokens");
        assert_eq!(moved(&mut session), first, "what the slot held does not matter");
        assert_eq!(moved(&mut folder.open(arms, share_batch)), first);
    }
}

#[test]
fn two_arms_on_one_file_have_preferences_each_of_their_own() {
    let folder = Folder::new();
    let arms = |a: &str, b: &str| {
        format!("a: {{lora: parm.gguf, preferences: {{{a}}}}}, b: {{lora: parm.gguf, preferences: {{{b}}}}}")
    };
    let mut two = folder.open(&arms("helpful: 1", "harmless: 1"), "");
    two.weights().set_all(&[2.0, 0.0]).expect("weights");
    let first = text(&mut two, |_| {});
    two.weights().set_all(&[0.0, 2.0]).expect("weights");
    let second = text(&mut two, |_| {});
    assert_ne!(first, second);
    let mut one = folder.open("taste: {lora: parm.gguf, weight: 2, preferences: {helpful: 1}}", "");
    assert_eq!(text(&mut one, |_| {}), first);
    one.weights().set_all(&[2.0, 0.0, 1.0]).expect("in range");
    assert_eq!(text(&mut one, |_| {}), second);
}

#[test]
fn saved_caches_are_taken_over_under_the_preferences_that_they_were_read_with() {
    let folder = Folder::new();
    let arms = "taste: {lora: parm.gguf, weight: 2, preferences: {helpful: 1}}";
    let of_arm = |session: &Session| session.hook().with_guide(|guide| guide.n_decoded());
    let file = folder.path("caches.kv");
    let mut first = folder.open(arms, "share_batch: \"off\"");
    let expected = text(&mut first, |_| {});
    let n_all = of_arm(&first);
    first.slots()[0].save_caches().expect("caches").write(&file).expect("written");
    for (helpful, is_kept) in [(1.0, true), (0.5, false)] {
        let mut second = folder.open(arms, "share_batch: \"off\"");
        second.slots()[0].restore_caches(&Caches::read(&file).expect("sound")).expect("restored");
        second.weights().set("taste.helpful", helpful).expect("in range");
        let found = text(&mut second, |_| {});
        assert_eq!(found == expected, is_kept);
        assert_eq!(of_arm(&second) < n_all, is_kept, "{} of {n_all} tokens", of_arm(&second));
        second.weights().set("taste.helpful", 1.0).expect("in range");
        assert_eq!(text(&mut second, |_| {}), expected);
    }
}
