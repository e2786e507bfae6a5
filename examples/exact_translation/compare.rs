//! How far guided distributions are from the exact one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use genarm::engine::llama::{Model, Vocab};
use genarm::engine::{Sequence, VocabWords};
use genarm::guidance::translate::{Lexicon, Translation};
use genarm::guidance::{Arm, add_weighted, kl_divergence, log_softmax};
use genarm::{Expert, Guide, Token, Weights};

use super::answer::Answer;
use super::answers::Asked;
use super::models;
use super::reading::Next;

/// The ARM behind genarm's translation, and beside it.
pub struct Models {
    base_vocab: Vocab,
    guide: Guide,
    /// The same ARM, for its own row.
    arm: Sequence,
    /// For each token of the base: the ARM's token of the same bytes.
    twins: Vec<Option<Token>>,
    arm_ends: Vec<Token>,
}

/// Divergences from the exact guided distribution under one weight, in nats.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Divergences {
    pub weight: f32,
    /// Of the base alone,
    pub alone: f32,
    /// with the ARM's probability of tokens that both have, and its floor for all others,
    pub same_bytes: f32,
    /// and as genarm translates.
    pub translated: f32,
}

/// What genarm's row and the exact one make of a token.
pub struct Difference {
    pub token: Token,
    pub base: f32,
    pub exact: f32,
    pub translated: f32,
    /// What it adds to the divergence.
    pub nats: f32,
}

/// The rows of one context.
pub struct Compared {
    base: Vec<f32>,
    exact: Vec<f32>,
    same_bytes: Vec<f32>,
    translated: Vec<f32>,
}

impl Models {
    pub fn new(base: &Arc<Model>, arm: &Arc<Model>, n_threads: u32, lexicon: Option<&Path>) -> Result<Self> {
        let [base_vocab, arm_vocab] = [base.vocab(), arm.vocab()];
        let translation = translation(&base_vocab, &arm_vocab, lexicon)?;
        let expert = Box::new(models::sequence(arm, n_threads)?);
        let guide = Guide::new(
            vec![Arm::translated("arm", expert, Arc::new(translation))],
            Weights::new([("arm".to_owned(), 1.0)]),
        );
        let arm_tokens: HashMap<Vec<u8>, Token> =
            tokens(&arm_vocab).rev().map(|token| (bytes(&arm_vocab, token), token)).collect();
        let twin = |token| arm_tokens.get(&bytes(&base_vocab, token)).copied().filter(|_| !base_vocab.is_eog(token));
        let twins = tokens(&base_vocab).map(|token| twin(token).filter(|_| !bytes(&base_vocab, token).is_empty()));
        Ok(Self {
            twins: twins.collect(),
            arm_ends: arm_vocab.eog_tokens().collect(),
            base_vocab,
            guide,
            arm: models::sequence(arm, n_threads)?,
        })
    }

    /// The rows after a response. `usual` are the ARM's own tokens of it.
    pub fn compare(&mut self, asked: &Asked, usual: &[Token], base: Vec<f32>, answer: &Answer) -> Result<Compared> {
        // The base's prompt does not matter where the ARM has its own.
        self.guide.begin(1, vec![Some(asked.prompt.clone())]);
        let mut guided = base.clone();
        self.guide.add(&[&[0], &asked.chosen[..]].concat(), 1, &mut guided)?;
        let translated: Vec<f32> = guided.iter().zip(&base).map(|(guided, base)| guided - base).collect();
        let floor = translated.iter().copied().filter(|ln_q| ln_q.is_finite()).fold(0.0, f32::min);
        let arm = log_softmax(self.arm.advance(&[&asked.prompt, usual].concat(), 1)?, 1.0);
        let end = self.arm_ends.iter().map(|end| arm[*end as usize].exp()).sum::<f32>().ln();
        let ends: Vec<_> = self.base_vocab.eog_tokens().collect();
        let mut same_bytes: Vec<f32> =
            self.twins.iter().map(|twin| twin.map_or(floor, |twin| arm[twin as usize].max(floor))).collect();
        let mut exact = vec![floor; base.len()];
        ends.iter().for_each(|token| same_bytes[*token as usize] = end.max(floor));
        for (next, q) in answer.q() {
            let ln_q = (q.ln() as f32).max(floor);
            match next {
                Next::Token(token) => exact[token as usize] = ln_q,
                Next::End => ends.iter().for_each(|token| exact[*token as usize] = ln_q),
            }
        }
        Ok(Compared { base, exact, same_bytes, translated })
    }
}

impl Compared {
    pub fn divergences(&self, weight: f32) -> Divergences {
        let exact = self.guided(&self.exact, weight);
        let from = |ln_q: &[f32], weight| kl_divergence(&exact, &self.guided(ln_q, weight));
        Divergences {
            weight,
            alone: from(&self.exact, 0.0),
            same_bytes: from(&self.same_bytes, weight),
            translated: from(&self.translated, weight),
        }
    }

    /// ln of the guided distribution.
    fn guided(&self, ln_q: &[f32], weight: f32) -> Vec<f32> {
        let mut logits = self.base.clone();
        if weight != 0.0 {
            add_weighted(&mut logits, ln_q, 0.0, weight);
        }
        log_softmax(&logits, 1.0)
    }

    /// The tokens that matter most to the divergence of genarm's row.
    pub fn differences(&self, weight: f32, n: usize) -> Vec<Difference> {
        let [base, exact, translated] =
            [log_softmax(&self.base, 1.0), self.guided(&self.exact, weight), self.guided(&self.translated, weight)];
        // Each term of KL(p ‖ q) = Σ p · (ln p − ln q) − p + q is at least 0.
        let nats = |i: usize| exact[i].exp() * (exact[i] - translated[i]) - exact[i].exp() + translated[i].exp();
        let difference = |i: usize| Difference {
            token: i as Token,
            base: base[i].exp(),
            exact: exact[i].exp(),
            translated: translated[i].exp(),
            nats: nats(i),
        };
        let mut all: Vec<usize> = (0..base.len()).filter(|i| nats(*i) > 1e-6).collect();
        all.sort_by(|a, b| nats(*b).total_cmp(&nats(*a)));
        all.into_iter().take(n).map(difference).collect()
    }
}

/// The lexicon is read from a file, or written to it where there is none.
fn translation(base: &Vocab, arm: &Vocab, file: Option<&Path>) -> Result<Translation> {
    let words = |vocab| VocabWords::new(vocab).context("a tokenizer changes the texts that it reads");
    let (base, arm) = (words(base)?, words(arm)?);
    let kept = file.and_then(|file| Lexicon::from_bytes(&std::fs::read(file).ok()?, &base, &arm));
    let lexicon = match kept {
        Some(lexicon) => lexicon,
        None => {
            let lexicon = Lexicon::build(&base, &arm, 2)?;
            file.map(|file| std::fs::write(file, lexicon.to_bytes())).transpose()?;
            lexicon
        }
    };
    Ok(Translation { base: Box::new(base), arm: Box::new(arm), lexicon })
}

fn tokens(vocab: &Vocab) -> std::ops::Range<Token> {
    0..vocab.n_tokens() as Token
}

fn bytes(vocab: &Vocab, token: Token) -> Vec<u8> {
    let mut bytes = Vec::new();
    vocab.piece(token, false, &mut bytes);
    bytes
}
