//! The sampler of one text: the hook first, then llama.cpp's chain, then the draw.

use std::time::{Duration, Instant};

use llama_cpp_sys_2 as sys;

use super::chain::{ChainError, Owned, grammar, selector, truncation};
use super::hook::{Hook, HookState};
use super::params::SamplingParams;
use super::vtable::{into_raw, own_init};
use crate::decode::{Chain, ChainFault};
use crate::engine::llama::Vocab;
use crate::expert::Token;

/// Guides, truncates and draws.
///
/// A grammar constrains as in llama.cpp's tools: a token is drawn without it, and only where the grammar forbids that token are the
/// candidates masked and drawn from again. The hook then acts twice at one position, on candidates of which
/// some are forbidden; it reads no ARM again, and leaves them forbidden.
pub struct Sampler {
    chain: Owned,
    selector: Owned,
    grammar: Option<Owned>,
    hook: Option<HookState>,
    /// One place a token, filled anew at each step.
    candidates: Vec<sys::llama_token_data>,
    /// The last token that the grammar has let pass.
    approved: Option<Token>,
    elapsed: Duration,
}

// SAFETY: `candidates` is plain data; the samplers are `Send`.
unsafe impl Send for Sampler {}

impl Sampler {
    /// A sampler of the base's vocabulary; `n_ctx` is what penalties that look back "over the whole context" see.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn new(
        params: &SamplingParams,
        vocab: &Vocab,
        n_ctx: usize,
        hook: Option<HookState>,
    ) -> Result<Self, ChainError> {
        let grammar = grammar(params, vocab)?;
        let selector = selector(params, vocab)?;
        let first = hook.clone().map(|state| into_raw(Hook::new(state), own_init).cast());
        let chain = truncation(params, vocab, n_ctx, first)?;
        let blank = sys::llama_token_data { id: 0, logit: 0.0, p: 0.0 };
        let candidates = vec![blank; vocab.n_tokens()];
        Ok(Self { chain, selector, grammar, hook, candidates, approved: None, elapsed: Duration::ZERO })
    }

    /// The names of the samplers, in the order they act.
    pub fn names(&self) -> Vec<String> {
        self.chain.names()
    }

    /// Forgets the text: the next is begun by accepting its prompt.
    pub fn reset(&mut self) {
        self.chain.reset();
        self.selector.reset();
        self.grammar.iter_mut().for_each(Owned::reset);
        self.approved = None;
    }

    /// Time spent filling, guiding, truncating and drawing, that of the ARMs included.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The probabilities after the whole chain, one a token of the vocabulary; those of tokens that were cut off are 0.
    ///
    /// # Errors
    ///
    /// As [`sample`](Chain::sample).
    pub fn distribution(&mut self, logits: &[f32], out: &mut [f32]) -> Result<(), ChainFault> {
        let mut array = fill(&mut self.candidates, logits);
        if let Some(grammar) = &mut self.grammar {
            grammar.apply(&mut array);
        }
        self.chain.apply(&mut array);
        self.check_hook()?;
        // SAFETY: a sampler leaves an array of `size` candidates, in our buffer or its own.
        let left = unsafe { std::slice::from_raw_parts(array.data, array.size) };
        let max = left.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            return Err(ChainFault::NoCandidate);
        }
        out.fill(0.0);
        let sum: f64 = left.iter().map(|c| f64::from(c.logit - max).exp()).sum();
        for c in left {
            out[c.id as usize] = (f64::from(c.logit - max).exp() / sum) as f32;
        }
        Ok(())
    }

    fn check_hook(&self) -> Result<(), ChainFault> {
        match self.hook.as_ref().and_then(HookState::take_error) {
            Some(error) => Err(ChainFault::Guide(error)),
            None => Ok(()),
        }
    }

    /// Draws from `logits`, with the grammar's mask if `masked`.
    fn draw(&mut self, logits: &[f32], masked: bool) -> Result<Token, ChainFault> {
        let mut array = fill(&mut self.candidates, logits);
        if masked && let Some(grammar) = &mut self.grammar {
            grammar.apply(&mut array);
        }
        self.chain.apply(&mut array);
        self.check_hook()?;
        self.selector.apply(&mut array);
        let selected = usize::try_from(array.selected).ok().filter(|i| *i < array.size);
        // SAFETY: a selecting sampler leaves `selected` below `size`, in an array that lives until the next call.
        let chosen = selected.map(|i| unsafe { *array.data.add(i) });
        chosen.filter(|c| c.logit > f32::NEG_INFINITY).map(|c| c.id).ok_or(ChainFault::NoCandidate)
    }

    fn grammar_allows(&mut self, token: Token) -> bool {
        let Some(grammar) = &mut self.grammar else { return true };
        let mut one = [sys::llama_token_data { id: token, logit: 1.0, p: 0.0 }];
        let mut array = sys::llama_token_data_array { data: one.as_mut_ptr(), size: 1, selected: -1, sorted: false };
        grammar.apply(&mut array);
        one[0].logit > f32::NEG_INFINITY
    }
}

impl Chain for Sampler {
    fn accept(&mut self, token: Token, generated: bool) {
        // llama.cpp ends the process when a grammar is given a token that it forbids.
        if generated && (self.approved.take() == Some(token) || self.grammar_allows(token)) {
            self.grammar.iter_mut().for_each(|grammar| grammar.accept(token));
        }
        self.chain.accept(token);
        self.selector.accept(token);
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        if let Some(hook) = &self.hook {
            hook.with_guide(|guide| guide.prepare(history, k));
        }
    }

    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.with_guide(|guide| guide.prepare_chunk(history, max)))
    }

    fn read(&mut self) -> Result<(), ChainFault> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook.with_guide(|guide| guide.read()).map_err(ChainFault::Guide))
    }

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        let start = Instant::now();
        let mut token = self.draw(logits, false);
        if let Ok(free) = token
            && !self.grammar_allows(free)
        {
            token = self.draw(logits, true);
        }
        self.approved = token.as_ref().ok().copied();
        self.elapsed += start.elapsed();
        token
    }
}

fn fill(candidates: &mut [sys::llama_token_data], logits: &[f32]) -> sys::llama_token_data_array {
    assert_eq!(candidates.len(), logits.len(), "a row of the base's vocabulary");
    for (i, (candidate, logit)) in candidates.iter_mut().zip(logits).enumerate() {
        *candidate = sys::llama_token_data { id: i as Token, logit: *logit, p: 0.0 };
    }
    let size = candidates.len();
    sys::llama_token_data_array { data: candidates.as_mut_ptr(), size, selected: -1, sorted: false }
}
