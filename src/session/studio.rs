//! A session that makes and scores many texts.

use super::{Prompt, Session};
use crate::decode::{self, Chain, ChainFault, Flow};
use crate::eval::score::{Prompts, TokenScore, score};
use crate::eval::studio::{Request, Studio, StudioError, Text};
use crate::expert::Token;
use crate::sampling::Sampler;
use crate::sampling::params::SamplingParams;

/// Makes texts one after the other on a session, after a fixed list of prompts.
pub struct SessionStudio {
    session: Session,
    params: SamplingParams,
    prompts: Vec<Prompt>,
    /// Tokens of a text at most.
    n_predict: usize,
}

impl SessionStudio {
    /// A studio that samples by `params` (but for the seed, which each request brings) up to `n_predict` tokens.
    pub fn new(session: Session, params: SamplingParams, prompts: Vec<Prompt>, n_predict: usize) -> Self {
        Self { session, params, prompts, n_predict }
    }

    /// The session that it works with.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn one(&mut self, request: &Request) -> Result<Text, Box<dyn std::error::Error + Send + Sync>> {
        self.session.weights().set_all(&request.weights)?;
        let params = SamplingParams { seed: request.seed, ..self.params.clone() };
        let sampler = self.session.sampler(&params)?;
        let mut chain = Candidates { sampler, k: request.candidates, row: Vec::new() };
        let prompt = &self.prompts[request.prompt];
        self.session.hook.with_guide(|guide| guide.begin(prompt.base.len(), prompt.arms.clone()));
        let vocab = self.session.vocab.clone();
        let is_eog = |token| vocab.is_eog(token);
        let each = &mut |_: decode::Step<'_>| Flow::Continue;
        let made = decode::generate(&mut self.session.base, &mut chain, &prompt.base, self.n_predict, &is_eog, each)?;
        let text = vocab.text(&made.tokens, false);
        Ok(Text { tokens: made.tokens, text, finish: made.finish })
    }
}

impl Studio for SessionStudio {
    fn generate(&mut self, requests: &[Request], each: &mut dyn FnMut()) -> Result<Vec<Text>, StudioError> {
        let make = |request: &Request| {
            let text = self.one(request).map_err(|source| StudioError { prompt: request.prompt, source });
            each();
            text
        };
        requests.iter().map(make).collect()
    }

    fn score(&mut self, prompt: usize, response: &[Token], weights: &[f32]) -> Result<Vec<TokenScore>, StudioError> {
        let Prompt { base, arms } = &self.prompts[prompt];
        let prompts = Prompts { base, arms };
        let expert = &mut self.session.base;
        let scored = self.session.hook.with_guide(|guide| score(expert, guide.arms(), prompts, response, weights));
        scored.map_err(|source| StudioError { prompt, source: source.into() })
    }
}

/// A sampler that is shown only the base's k likeliest tokens.
struct Candidates {
    sampler: Sampler,
    k: Option<usize>,
    row: Vec<f32>,
}

impl Chain for Candidates {
    fn accept(&mut self, token: Token, generated: bool) {
        self.sampler.accept(token, generated);
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        self.sampler.prepare(history, k);
    }

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        match self.k.filter(|k| (1..logits.len()).contains(k)) {
            None => self.sampler.sample(logits),
            Some(k) => {
                self.row.clear();
                self.row.extend_from_slice(logits);
                let (_, kth, _) = self.row.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                let least = *kth;
                self.row.clear();
                self.row.extend(logits.iter().map(|x| if *x >= least { *x } else { f32::NEG_INFINITY }));
                self.sampler.sample(&self.row)
            }
        }
    }
}
