//! Every drafter against plain decoding.

use genarm::config::Speculate;
use genarm::sampling::params::SamplingParams;
use genarm::session::{Session, SessionError};
use genarm::{Flow, Token};

use super::family::Family;
use super::shared::{KNOWN, guided};
use super::{Check, Found};
use crate::support;

pub static DRAFTS: Check = Check::new(drafts);

fn greedy(session: &mut Session, prompt: &[Token]) -> (Vec<Token>, u64) {
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..support::open_params() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.token_prompt(prompt.to_vec()).expect("a prompt");
    let generated = session.generate(&mut sampler, &prompt, 24, &mut |_| Flow::Continue).expect("a text");
    (generated.tokens, generated.speculation.accepted)
}

/// That two texts are equal, or go on differently where their tokens are as likely but for noise.
fn same(family: &Family, session: &mut Session, prompt: &[Token], found: &[Token], expected: &[Token], what: &str) {
    let Some(at) = (0..expected.len()).find(|at| found[*at] != expected[*at]) else { return };
    let row = guided(session, &[prompt, &expected[..at]].concat(), 1);
    let of = |token: Token| row[token as usize];
    let gap = of(expected[at]) - of(found[at]);
    assert!(gap.abs() < family.noise(), "{what}: token {at} is {} and not {}, by {gap}", found[at], expected[at]);
}

fn drafts(family: &Family) -> Found {
    let switch = if KNOWN.contains(&family.name) { "off" } else { "on" };
    let more = format!("speculate: \"off\"\nshare_batch: \"{switch}\"");
    let mut session = family.session(&family.arm(), &more).expect("a session");
    // A text that repeats itself, so that lookup finds something.
    let prompt = [&family.golden.tokens[..40], &family.golden.tokens[..30]].concat();
    session.weights().set("a", 0.2).expect("a weight");
    let (expected, _) = greedy(&mut session, &prompt);
    let mut refused = None;
    let drafters = [
        Speculate::Lookup,
        Speculate::Base,
        Speculate::Arm(None),
        Speculate::Draft(family.path.clone()),
        Speculate::Auto,
    ];
    for speculate in drafters {
        let speculator = match session.speculator(&speculate) {
            Ok(speculator) => speculator,
            Err(SessionError::Speculate(line)) => {
                refused = Some(family.refused(line));
                continue;
            }
            Err(error) => panic!("{speculate:?}: {error}"),
        };
        session.replace_speculator(speculator);
        let (found, accepted) = greedy(&mut session, &prompt);
        same(family, &mut session, &prompt, &found, &expected, &format!("{speculate:?}"));
        // The base alone is right now and then.
        assert!(accepted > 0 || !matches!(speculate, Speculate::Base), "{speculate:?}: no draft is kept");
        // A context of a draft model takes back what is not kept: once more from the beginning.
        let (again, _) = greedy(&mut session, &prompt);
        same(family, &mut session, &prompt, &again, &expected, &format!("{speculate:?}, the second time"));
        session.replace_speculator(None);
    }
    refused.unwrap_or(Found::Works)
}

#[test]
fn every_drafter_leaves_the_greedy_text_as_it_is() {
    DRAFTS.run();
}
