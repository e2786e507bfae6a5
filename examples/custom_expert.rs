//! An expert of your own: anything that gives a logit for each token can guide a base.
//!
//!     cargo run --release --example custom_expert
//!
//! This one is not a model. It prefers tokens that the text does not have yet, so with a positive weight the base
//! repeats itself less.

use std::collections::HashSet;
use std::path::Path;

use genarm::decode::generate;
use genarm::guidance::{Arm, Contract, Tail};
use genarm::sampling::params::SamplingParams;
use genarm::sampling::{FailurePolicy, HookState, Sampler};
use genarm::{Config, Expert, ExpertError, Flow, Guide, Overrides, Session, Token, Weights};

/// Logit 0 for a token that the history holds, 1 for any other.
struct Novelty {
    n_vocab: usize,
    rows: Vec<f32>,
}

impl Expert for Novelty {
    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn n_ctx(&self) -> usize {
        usize::MAX
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        genarm::expert::check_request(history, k, self.n_ctx(), self.n_vocab)?;
        self.rows.clear();
        for end in history.len() - k + 1..=history.len() {
            let seen: HashSet<Token> = history[..end].iter().copied().collect();
            self.rows.extend((0..self.n_vocab as Token).map(|token| if seen.contains(&token) { 0.0 } else { 1.0 }));
        }
        Ok(&self.rows)
    }

    // It has no memory to fill and nothing to start: the rest is empty.
    fn prepare(&mut self, _: &[Token], _: usize) {}

    fn start(&mut self) -> bool {
        false
    }

    fn n_cached(&self, history: &[Token]) -> usize {
        history.len()
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        Ok(())
    }

    fn forget(&mut self) {}

    fn n_decoded(&self) -> u64 {
        0
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(Some(Path::new("models/demo.yaml")), &Overrides::default())?;
    let mut session = Session::open(config, &mut |_file, _share_read| true)?;
    let (vocab, n_ctx) = (session.vocab().clone(), session.n_ctx());
    let prompt = session.text_prompt("Once upon a time, there was a little girl named Lily.")?;
    let sampling = SamplingParams { seed: 1, ignore_eos: true, ..session.config().sampling.clone() };

    let n_vocab = vocab.n_tokens();
    let novelty = Novelty { n_vocab, rows: Vec::new() };
    let contract = Contract { n_common: n_vocab, tail: Tail::None };
    let weights = Weights::new([("novelty".to_owned(), 0.0)]);
    let guide = Guide::new(vec![Arm::new("novelty", Box::new(novelty), contract)], weights.clone());
    let mut sampler = Sampler::new(&sampling, &vocab, n_ctx, Some(HookState::new(guide, FailurePolicy::Base)))?;

    for weight in [0.0, 2.0] {
        weights.set("novelty", weight)?;
        sampler.reset();
        let is_eog = |token| vocab.is_eog(token);
        let each = &mut |_: genarm::Step<'_>| Flow::Continue;
        let written = generate(session.base(), &mut sampler, None, &prompt.base, 48, &is_eog, each)?;
        let distinct: HashSet<_> = written.tokens.iter().collect();
        println!("novelty = {weight}, {} tokens, {} distinct:", written.tokens.len(), distinct.len());
        println!("{}\n", vocab.text(&written.tokens, false).trim());
    }
    Ok(())
}
