//! Speculation on llama.cpp, with the demo models.

use std::collections::HashMap;
use std::path::Path;

use genarm::Expert;
use genarm::config::{Config, Overrides};
use genarm::decode::draft::{BaseDrafter, Drafter, LookupDrafter, ModelDrafter};
use genarm::decode::{Chain, Distribution, Finish, Flow, Policy, Speculator, generate};
use genarm::guidance::Gate;
use genarm::sampling::params::SamplingParams;
use genarm::session::{Detokenizer, Session};

use super::world::deviation;
use crate::support;

const PROMPT: &str = "Tom had a red ball. Tom had a red";

fn demo(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(file)
}

/// The demo, with further settings.
fn session(yaml: &str) -> Session {
    open(&(std::fs::read_to_string(demo("demo.yaml")).expect("the demo") + yaml))
}

/// The smaller of the demo models, for many texts: a base and an ARM of its size.
const SMALL: &str =
    "base: {model: small.gguf}\narms: {talkative: {model: arm-talkative.gguf, weight: 0.7}}\nspeculate: off\n";

fn open(text: &str) -> Session {
    let mut overrides = Overrides::default();
    // Threads gain nothing on models that small, and lose much where others compute too.
    overrides.engine.threads = Some(1);
    let config = Config::parse(text, &demo("demo.yaml"), &overrides).expect("a configuration");
    Session::open(config, &mut |_, _| true).expect("a session")
}

/// How far the next four tokens of `n` runs are from the enumerated distribution, in deviations.
fn distance(drafter: Box<dyn Drafter>, k: usize, n: u32, params: &SamplingParams) -> f64 {
    let mut session = open(SMALL);
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
        let generated = generate(base, &mut sampler, Some(&mut speculator), &prompt, 100, &|_| false, &mut each);
        accepted += generated.expect("a text").speculation.accepted;
        *counts.entry(text).or_insert(0u64) += 1;
    }
    // Lookup repeats the text, which the penalty is there to prevent: even so it is right now and then.
    assert!(accepted > u64::from(n) / 50, "drafts are kept now and then: {accepted}");
    deviation(&texts, &counts, n.into())
}

#[test]
fn texts_of_real_models_have_the_distribution_of_the_plain_loop() {
    let params = SamplingParams { temp: 0.9, top_k: 4, top_p: 0.95, repeat_penalty: 1.3, ..support::open_params() };
    let small = || support::sequence(&support::load(&demo("small.gguf")));
    let z = distance(Box::new(ModelDrafter::new("draft", Box::new(small()), false)), 3, 20_000, &params);
    assert!(z < 4.5, "a draft model: {z} deviations");
    let guided = ModelDrafter::new("backbone", Box::new(small()), true);
    let others: [(Box<dyn Drafter>, usize); 3] =
        [(Box::new(guided), 2), (Box::new(BaseDrafter), 2), (Box::new(LookupDrafter), 3)];
    for (drafter, k) in others {
        let name = drafter.name().to_owned();
        let z = distance(drafter, k, 3_000, &params);
        assert!(z < 4.5, "{name}: {z} deviations");
    }
}

#[test]
fn a_grammar_is_followed_with_the_probabilities_of_the_plain_loop() {
    // The grammar forbids much of what the models like: both ways to draw a token are taken.
    let params =
        SamplingParams { grammar: Some("root ::= [a-m \\n]*".into()), temp: 1.0, top_k: 5, ..support::open_params() };
    let small = support::sequence(&support::load(&demo("small.gguf")));
    let z = distance(Box::new(ModelDrafter::new("draft", Box::new(small), false)), 3, 3_000, &params);
    assert!(z < 4.5, "{z} deviations");
}

#[test]
fn a_stop_string_across_the_boundary_of_a_draft_ends_the_text_where_plain_decoding_does() {
    let open = |word: &str| {
        let session = session(&format!("\nspeculate: \"{word}\"\n"));
        session.weights().set_all(&[0.0, 0.0, 0.5]).expect("weights");
        session
    };
    let (mut plain, mut spec) = (open("off"), open("backbone"));
    let prompt = plain.text_prompt(PROMPT).expect("a prompt");
    let params = SamplingParams { temp: 0.0, ..support::open_params() };
    // What is shown, the tokens, the end, and how the text goes on when another turn has been added.
    let run = |session: &mut Session, stop: &str| {
        let mut sampler = session.sampler(&params).expect("a sampler");
        let mut pieces = Detokenizer::new(session.vocab().clone(), vec![stop.to_owned()]);
        let mut shown = String::new();
        let generated = session
            .generate(&mut sampler, &prompt, 40, &mut |step| {
                let flow = pieces.push(step.token);
                shown += &pieces.take_text();
                flow
            })
            .expect("a text");
        let end = pieces.finish();
        shown += &(pieces.take_text() + &end);
        let next = session.token_prompt([&prompt.base[..], &generated.tokens, &[300]].concat()).expect("a prompt");
        let after = session.generate(&mut sampler, &next, 8, &mut |_| Flow::Continue).expect("a text");
        (shown, generated.tokens, generated.finish, after.tokens)
    };
    let (text, tokens, ..) = run(&mut plain, "\u{0}");
    let drafts = |session: &mut Session| {
        let mut sampler = session.sampler(&params).expect("a sampler");
        session.generate(&mut sampler, &prompt, 40, &mut |_| Flow::Continue).expect("a text").speculation
    };
    let (cycles, n) = (drafts(&mut spec).drafts as usize, tokens.len());
    assert!(
        cycles > 4 && cycles < n,
        "{cycles} drafts for {n} tokens: the text has boundaries, and tokens between them"
    );
    // Every window of six bytes, so some lie across the end of a draft, wherever that is, and most across tokens.
    for start in (0..text.len() - 6).filter(|start| text.is_char_boundary(*start) && text.is_char_boundary(start + 6)) {
        let stop = &text[start..start + 6];
        let expected = run(&mut plain, stop);
        assert_eq!(expected.2, Finish::Stop, "{stop:?}");
        assert!(text.starts_with(&expected.0) && !expected.0.contains(stop), "{stop:?}: {:?}", expected.0);
        assert_eq!(run(&mut spec, stop), expected, "{stop:?}");
    }
}

#[test]
fn a_gate_leaves_to_the_base_what_it_is_sure_of_and_the_arms_catch_up() {
    let gate = Gate::TopP(0.6);
    let (mut exact, mut gated) =
        (session("\nspeculate: off\n"), session("\nspeculate: off\nguidance: {gate: {top_p: 0.6}}\n"));
    let params = SamplingParams { temp: 0.0, ..support::open_params() };
    let prompt = gated.text_prompt(PROMPT).expect("a prompt");
    for session in [&mut exact, &mut gated] {
        session.weights().set_all(&[1.5, 0.0, 0.5]).expect("weights");
    }
    let mut sampler = gated.sampler(&params).expect("a sampler");
    let generated = gated.generate(&mut sampler, &prompt, 60, &mut |_| Flow::Continue).expect("a text");
    let n_gated = gated.hook().with_guide(|guide| guide.n_gated());
    // Every step again, by hand.
    let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a token") as i32;
    let mut sure = 0;
    for (i, token) in generated.tokens.iter().enumerate() {
        let history = [&prompt.base[..], &generated.tokens[..i]].concat();
        let mut row = exact.base().advance(&history, 1).expect("a row").to_vec();
        if gate.is_sure(row.iter().copied()) {
            sure += 1;
        } else {
            exact.hook().with_guide(|guide| guide.add(&history, 1, &mut row)).expect("a row");
        }
        assert_eq!(*token, best(&row), "token {i}");
    }
    assert_eq!(n_gated, sure);
    assert!((5..55).contains(&sure), "the gate is asked, and says both: {sure}");
    let read = |session: &mut Session| session.hook().with_guide(|guide| guide.n_decoded());
    assert!(read(&mut gated) <= read(&mut exact), "no token is read twice");
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
