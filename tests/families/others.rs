//! Training on a family, and ARMs of other vocabularies.

use candle_core::Device;
use genarm::sampling::params::SamplingParams;
use genarm::session::Session;
use genarm::train::{Backbone, Packed};
use genarm::{Flow, Token};

use super::family::{Family, SETTINGS, distance, open};
use super::{Check, Found};
use crate::support;

pub static TRAINING: Check = Check::new(training);
pub static TRANSLATED: Check = Check::new(translated);
pub static TRANSLATES: Check = Check::new(translates);

fn training(family: &Family) -> Found {
    let mut backbone = match Backbone::load(&family.path, &Device::Cpu, None) {
        Ok(backbone) => backbone,
        Err(error) => return family.refused(error),
    };
    let tokens: Vec<u32> = family.golden.tokens.iter().map(|token| *token as u32).collect();
    for (with_lora, expected) in [false, true].into_iter().zip(&family.rows) {
        if with_lora && let Err(error) = backbone.load_lora(&family.lora) {
            panic!("its LoRA: {error}");
        }
        let mut packed = Packed::default();
        packed.push(&tokens, 1);
        let rows = backbone.logits(&packed).expect("logits").to_vec2::<f32>().expect("rows");
        // The row of a position is scored with the token after it.
        for (position, expected) in family.golden.positions.iter().zip(expected).filter(|(p, _)| **p < rows.len()) {
            let found = distance(&rows[*position], expected);
            assert!(found < 2.0 * family.noise(), "LoRA {with_lora}, position {position}: {found:e}");
        }
    }
    Found::Works
}

#[test]
fn the_graph_that_is_trained_computes_what_transformers_computes_or_is_refused() {
    TRAINING.run();
}

fn greedy(session: &mut Session, text: &str) -> Vec<Token> {
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..support::open_params() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.text_prompt(text).expect("a prompt");
    session.generate(&mut sampler, &prompt, 8, &mut |_| Flow::Continue).expect("a text").tokens
}

/// Whether a configuration with an ARM of another vocabulary gives a text that the ARM changes, twice the same.
fn steers(family: &Family, yaml: &str) -> Found {
    let mut session = match open(yaml) {
        Ok(session) => session,
        Err(error) => return family.refused(error),
    };
    let text = &family.golden.prompt;
    let first = greedy(&mut session, text);
    session.weights().set("a", 0.0).expect("a weight");
    assert_ne!(first, greedy(&mut session, text), "the ARM steers");
    session.weights().set("a", 1.0).expect("a weight");
    greedy(&mut session, "The wind came over the lake");
    assert_eq!(greedy(&mut session, text), first, "after other texts");
    Found::Works
}

fn translated(family: &Family) -> Found {
    let arm = support::models().arms[0].display();
    let base = family.path.display();
    let yaml = format!(
        "base: {{model: {base}, {SETTINGS}}}\narms: {{a: {{model: {arm}, {SETTINGS}, vocabulary: translate, weight: 1}}}}\nspeculate: \"off\"\n"
    );
    steers(family, &yaml)
}

#[test]
fn a_base_takes_an_arm_of_another_vocabulary() {
    TRANSLATED.works();
}

fn translates(family: &Family) -> Found {
    let base = support::models().base.display();
    let [arm, lora] = [&family.path, &family.lora].map(|path| path.display());
    let yaml = format!(
        "base: {{model: {base}, {SETTINGS}}}\narms: {{a: {{model: {arm}, lora: [{{path: {lora}}}], {SETTINGS}, vocabulary: translate, weight: 1}}}}\nspeculate: \"off\"\n"
    );
    steers(family, &yaml)
}

#[test]
fn an_arm_of_the_family_guides_a_base_of_another_vocabulary_or_is_refused() {
    TRANSLATES.run();
}
