//! Speculation on llama.cpp, with the demo models.

use std::collections::HashMap;
use std::path::Path;

use genarm::Expert;
use genarm::config::{Config, Overrides};
use genarm::decode::draft::{BaseDrafter, Drafter, LookupDrafter, ModelDrafter};
use genarm::decode::{Chain, Distribution, Finish, Flow, Policy, Speculator, TargetChain, speculate};
use genarm::sampling::params::SamplingParams;
use genarm::session::Session;

use super::world::deviation;
use crate::support;

const PROMPT: &str = "Tom had a red ball. Tom had a red";

fn demo(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(file)
}

fn session(yaml: &str) -> Session {
    let text = std::fs::read_to_string(demo("demo.yaml")).expect("the demo") + yaml;
    let mut overrides = Overrides::default();
    // Threads gain nothing on models that small, and lose much where others compute too.
    overrides.engine.threads = Some(1);
    let config = Config::parse(&text, &demo("demo.yaml"), &overrides).expect("a configuration");
    Session::open(config, &mut |_, _| true).expect("a session")
}

/// How far the next four tokens of `n` runs are from the enumerated distribution, in deviations.
fn distance(drafter: Box<dyn Drafter>, k: usize, n: u32, params: &SamplingParams) -> f64 {
    let mut session = session("\nspeculate: off\nshare_batch: off\n");
    let prompt = session.vocab().tokenize(PROMPT, true, true).expect("tokens");
    session.hook().with_guide(|guide| guide.keep_rows());
    let mut texts = HashMap::from([(Vec::new(), 1.0)]);
    for _ in 0..4 {
        let mut longer = HashMap::new();
        for (text, chance) in texts {
            let history = [prompt.clone(), text.clone()].concat();
            let mut sampler = session.sampler(params).expect("a sampler");
            history.iter().enumerate().for_each(|(i, token)| sampler.accept(*token, i >= prompt.len()));
            let row = session.base().advance(&history, 1).expect("a row").to_vec();
            let mut p = Distribution::default();
            sampler.target_distribution(&row, &mut p).expect("a distribution");
            for (token, p) in p.entries() {
                longer.insert([text.clone(), vec![*token]].concat(), chance * p);
            }
        }
        texts = longer;
    }
    let mut speculator = Speculator::new(vec![drafter], Policy::Fixed(k));
    let (mut counts, mut accepted) = (HashMap::new(), 0);
    for seed in 0..n {
        let mut sampler = session.sampler(&SamplingParams { seed, ..params.clone() }).expect("a sampler");
        speculator.seed(u64::from(seed) + 1_000_000);
        let mut text = Vec::new();
        let mut each = |step: genarm::decode::Step<'_>| {
            text.push(step.token);
            if text.len() == 4 { Flow::Stop } else { Flow::Continue }
        };
        let base = session.base();
        let generated = speculate(base, &mut sampler, &mut speculator, &prompt, 100, &|_| false, &mut each);
        accepted += generated.expect("a text").speculation.accepted;
        *counts.entry(text).or_insert(0u64) += 1;
    }
    assert!(accepted > u64::from(n) / 20, "drafts are kept now and then: {accepted}");
    deviation(&texts, &counts, n.into())
}

#[test]
fn texts_of_real_models_have_the_distribution_of_the_plain_loop() {
    let params = SamplingParams { temp: 0.9, top_k: 4, top_p: 0.95, repeat_penalty: 1.3, ..support::open_params() };
    let small = || support::sequence(&support::load(&demo("small.gguf")));
    let z = distance(Box::new(ModelDrafter::new("draft", Box::new(small()), true)), 3, 20_000, &params);
    assert!(z < 4.5, "a draft model with the ARMs: {z} deviations");
    for (drafter, k) in [(Box::new(BaseDrafter) as Box<dyn Drafter>, 2), (Box::new(LookupDrafter), 3)] {
        let name = drafter.name().to_owned();
        let z = distance(drafter, k, 4_000, &params);
        assert!(z < 4.5, "{name}: {z} deviations");
    }
}

#[test]
fn a_grammar_is_followed_with_the_probabilities_of_the_plain_loop() {
    // The grammar forbids much of what the models like: both ways to draw a token are taken.
    let params =
        SamplingParams { grammar: Some("root ::= [a-m \\n]*".into()), temp: 1.0, top_k: 5, ..support::open_params() };
    let small = support::sequence(&support::load(&demo("small.gguf")));
    let z = distance(Box::new(ModelDrafter::new("draft", Box::new(small), false)), 3, 4_000, &params);
    assert!(z < 4.5, "{z} deviations");
}

/// Every word of `--speculate` that the demo models can follow.
fn words() -> [String; 7] {
    let draft = format!("draft:{}", demo("small.gguf").display());
    ["lookup", "base", "backbone", "arm", "arm:talkative", "auto", &draft].map(str::to_owned)
}

#[test]
fn at_temperature_0_every_drafter_gives_the_plain_text_up_to_near_ties() {
    // All three ARMs are heard: a LoRA on the base, a whole model, and a LoRA on the small backbone.
    let yaml = |word: &str| format!("\nspeculate: \"{word}\"\n");
    let text = |word: &str, n: usize| {
        let mut session = session(&yaml(word));
        session.weights().set_all(&[0.6, 0.3, 0.3]).expect("weights");
        let params = SamplingParams { temp: 0.0, ..support::open_params() };
        let mut sampler = session.sampler(&params).expect("a sampler");
        let prompt = session.text_prompt(PROMPT).expect("a prompt");
        let hook = session.hook().clone();
        let mut gaps = Vec::new();
        let generated = session.generate(&mut sampler, &prompt, n, &mut |step| {
            // How far the second best token is behind.
            let mut row = step.logits.to_vec();
            hook.with_guide(|guide| guide.add(step.history, 1, &mut row)).expect("a row");
            row.sort_unstable_by(|a, b| b.total_cmp(a));
            gaps.push(row[0] - row[1]);
            Flow::Continue
        });
        (generated.expect("a text"), gaps)
    };
    let (plain, gaps) = text("off", 60);
    for word in words() {
        let (found, _) = text(&word, 60);
        let same = plain.tokens.iter().zip(&found.tokens).take_while(|(a, b)| a == b).count();
        // Batches of other sizes round differently; where the best two are that near, either is right.
        assert!(same == plain.tokens.len() || gaps[same] < 0.05, "{word}: token {same}, gap {}", gaps[same]);
        assert!(same > 10, "{word}: {same} tokens alike");
        if word != "auto" {
            assert!(found.speculation.drafted > 0, "{word} drafted");
            let count = &found.speculation.drafters[0];
            assert_eq!(count.drafted, found.speculation.drafted);
        }
    }
}

#[test]
fn a_text_can_be_continued_after_speculation() {
    let mut session = session("\nspeculate: backbone\n");
    session.weights().set("plain", 0.5).expect("a weight");
    let params = SamplingParams { temp: 0.0, ..support::open_params() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.text_prompt(PROMPT).expect("a prompt");
    let whole = session.generate(&mut sampler, &prompt, 40, &mut |_| Flow::Continue).expect("a text");
    for n in [7, 12, 13] {
        let first = session.generate(&mut sampler, &prompt, n, &mut |_| Flow::Continue).expect("a text");
        assert_eq!((first.finish, &first.tokens[..]), (Finish::Length, &whole.tokens[..n]));
        let longer = session.token_prompt([prompt.base.clone(), first.tokens].concat()).expect("a prompt");
        let rest = session.generate(&mut sampler, &longer, 40 - n, &mut |_| Flow::Continue).expect("a text");
        assert_eq!(rest.tokens, whole.tokens[n..]);
    }
}
