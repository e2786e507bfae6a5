//! Every drafter against plain decoding.

use std::collections::BTreeMap;

use genarm::sampling::params::SamplingParams;
use genarm::session::{Session, SessionError};
use genarm::{Flow, Token};

use super::family::{self, Family, HEADS, SETTINGS};
use super::shared::guided;
use super::{Check, Found};
use crate::support;

pub static DRAFTS: Check = Check::new(drafts);

fn greedy(session: &mut Session, prompt: &[Token]) -> (Vec<Token>, u64) {
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..support::open_params() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.token_prompt(prompt.to_vec()).expect("a prompt");
    let generated = session.generate(&mut sampler, &prompt, 16, &mut |_| Flow::Continue).expect("a text");
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
    // Another file is another model, so that the ARM has a backbone of its own.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("backbone.gguf");
    std::fs::copy(&family.path, &copy).expect("a copy");
    let open = |speculate: &str| {
        let arm = family.arm_on(if speculate == "backbone" { &copy } else { &family.path });
        let session = family.session(&arm, &format!("speculate: \"{speculate}\"\nshare_batch: \"on\""))?;
        // The base alone is right now and then.
        session.weights().set("a", 0.2).expect("a weight");
        Ok(session)
    };
    let refused_by = |error: SessionError| match family.refused(&error) {
        Found::Refused(line) if matches!(error, SessionError::Speculate(_)) => line,
        other => panic!("{other:?}"),
    };
    let mut plain = open("off").map_err(refused_by).expect("a session");
    // A text that repeats itself, so that lookup finds something.
    let prompt = [&family.golden.tokens[..40], &family.golden.tokens[..30]].concat();
    let (expected, _) = greedy(&mut plain, &prompt);
    let draft = format!("draft:{}", family.path.display());
    let (mut works, mut refused) = (Vec::new(), BTreeMap::<String, Vec<&str>>::new());
    let named = ["lookup", "base", "arm", "backbone", "auto"].map(|name| (name, name));
    for (name, speculate) in named.into_iter().chain([("draft:FILE", &*draft)]) {
        let mut session = match open(speculate).map_err(refused_by) {
            Ok(session) => session,
            Err(line) => {
                refused.entry(line).or_default().push(name);
                continue;
            }
        };
        let (found, accepted) = greedy(&mut session, &prompt);
        same(family, &mut plain, &prompt, &found, &expected, name);
        assert!(accepted > 0 || !matches!(name, "base" | "backbone" | "draft:FILE"), "{name}: no draft is kept");
        // What is not kept is taken back: once more from the beginning.
        let (again, _) = greedy(&mut session, &prompt);
        same(family, &mut plain, &prompt, &again, &expected, &format!("{name}, the second time"));
        works.push(name);
    }
    let lines: Vec<_> = refused.iter().map(|(line, names)| format!("{}: {line}", names.join(", "))).collect();
    match works[..] {
        _ if refused.is_empty() => Found::Works,
        // Where all others are refused, auto decodes plainly.
        ["auto"] => Found::Refused(refused.into_keys().collect::<Vec<_>>().join("; ")),
        _ => Found::At(lines.join("; ")),
    }
}

#[test]
fn every_drafter_leaves_the_greedy_text_as_it_is() {
    DRAFTS.run();
}

#[test]
fn a_head_for_drafting_leaves_the_greedy_text_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in HEADS {
        let family = Family::of(name);
        let path = family.with_head(folder.path());
        let open = |speculate: &str, share: &str| {
            let (model, arm) = (path.display(), family.arm_on(&path));
            let yaml = format!(
                "base: {{model: {model}, {SETTINGS}}}\narms: {{{arm}}}\nspeculate: {speculate}\nshare_batch: \"{share}\"\n"
            );
            let session = family::open(&yaml)?;
            session.weights().set("a", 0.2).expect("a weight");
            Ok::<_, SessionError>(session)
        };
        for share in ["on", "off"] {
            let (plain, drafts) = (open("\"off\"", share), open("mtp", share));
            if name == "qwen3next" {
                // llama.cpp keeps no snapshots of its state.
                let refused = drafts.err().expect("no rollback").to_string();
                assert!(refused.contains("recurrent model, which cannot take back a draft"), "{refused}");
                continue;
            }
            let (mut plain, mut drafts) = (plain.expect("a session"), drafts.expect("a session"));
            // Longer and shorter than the pieces in which a head reads, and once more what it has read.
            for n in [70, 40, 70] {
                let prompt = &[&family.golden.tokens[..n], &family.golden.tokens[..n / 2]].concat();
                let (expected, _) = greedy(&mut plain, prompt);
                let (found, _) = greedy(&mut drafts, prompt);
                same(
                    family,
                    &mut plain,
                    prompt,
                    &found,
                    &expected,
                    &format!("{name}, {n} tokens, share_batch {share}"),
                );
            }
        }
    }
}

#[test]
fn auto_drafts_with_a_head_too_and_a_file_without_one_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let family = Family::of("qwen35");
    let path = family.with_head(folder.path());
    let open = |path: &std::path::Path, speculate: &str| {
        family::open(&format!("base: {{model: {}, {SETTINGS}}}\nspeculate: {speculate}\n", path.display()))
    };
    let mut auto = open(&path, "auto").expect("a session");
    let prompt = &family.golden.tokens[..40];
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..support::open_params() };
    let mut sampler = auto.sampler(&params).expect("a sampler");
    let prompt = auto.token_prompt(prompt.to_vec()).expect("a prompt");
    let generated = auto.generate(&mut sampler, &prompt, 4, &mut |_| Flow::Continue).expect("a text");
    let names: Vec<_> = generated.speculation.drafters.iter().map(|drafter| drafter.name.as_str()).collect();
    assert_eq!(names, ["lookup", "mtp"]);
    let refused = open(&family.path, "mtp").err().expect("no head").to_string();
    assert!(refused.ends_with("qwen35.gguf has no head for drafting (MTP layers)"), "{refused}");
}
