//! The sampler of one text: the hook first, then llama.cpp's chain, then the draw.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llama_cpp_sys_2 as sys;

use super::chain::{draft_truncation, selector, truncation};
use super::dry::Dry;
use super::error::ChainError;
use super::grammar::{Compiled, Grammar, TooMuchWork};
use super::hook::{Hook, HookState};
use super::owned::Owned;
use super::params::{Mirostat, SamplingParams};
use crate::decode::{Chain, ChainFault, Distribution, Guided};
use crate::engine::llama::Vocab;
use crate::expert::{ExpertError, Token, check_finite, is_number};
use crate::guidance::{Guide, GuideError};

/// Guides, truncates and draws.
///
/// A grammar constrains as in llama.cpp's tools: a token is drawn without it, and only where the grammar forbids that
/// token are the candidates masked and drawn from again. The hook then acts twice at one position, on candidates of
/// which some are forbidden; it reads no ARM again, and leaves them forbidden.
pub struct Sampler {
    chain: Owned,
    /// What a draft is drawn through.
    draft: Owned,
    selector: Owned,
    grammar: Option<Grammar>,
    hook: Option<HookState>,
    /// One place a token, filled anew at each step.
    candidates: Vec<sys::llama_token_data>,
    /// The last token that the grammar has let pass.
    approved: Option<Token>,
    /// Candidates that are left, for the grammar, and the distribution under its mask; empty but during a call.
    left: Vec<sys::llama_token_data>,
    masked: Distribution,
    seed: u32,
    has_distribution: bool,
    elapsed: Duration,
}

// SAFETY: candidates are plain data; the samplers are `Send`.
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
        let grammar = Compiled::of(params, vocab)?;
        Self::constrained(params, vocab, n_ctx, hook, grammar, None)
    }

    /// The same with a grammar that was compiled before, in place of that of the parameters, and with a copy of a
    /// [`Dry`] that was made before for these parameters.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn constrained(
        params: &SamplingParams,
        vocab: &Vocab,
        n_ctx: usize,
        hook: Option<HookState>,
        grammar: Option<Arc<Compiled>>,
        dry: Option<&Dry>,
    ) -> Result<Self, ChainError> {
        let grammar = grammar.map(Grammar::new);
        let selector = selector(params, vocab)?;
        let first = hook.clone().map(|state| Owned::of(Hook::new(state)).ok_or(ChainError::Memory)).transpose()?;
        let chain = truncation(params, vocab, n_ctx, first, dry)?;
        let draft = draft_truncation(params, vocab, n_ctx)?;
        let blank = sys::llama_token_data { id: 0, logit: 0.0, p: 0.0 };
        let candidates = vec![blank; vocab.n_tokens()];
        Ok(Self {
            chain,
            draft,
            selector,
            grammar,
            hook,
            candidates,
            approved: None,
            left: Vec::new(),
            masked: Distribution::default(),
            seed: params.seed,
            has_distribution: params.mirostat == Mirostat::Off,
            elapsed: Duration::ZERO,
        })
    }

    /// The seed of its draws.
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// Whether a text can be drafted ahead: mirostat has no distribution that a draft could be held against.
    pub fn has_distribution(&self) -> bool {
        self.has_distribution
    }

    /// The names of the samplers, in the order they act.
    pub fn names(&self) -> Vec<String> {
        self.chain.names()
    }

    /// Forgets the text: the next is begun by accepting its prompt.
    pub fn reset(&mut self) {
        self.chain.reset();
        self.selector.reset();
        self.grammar.iter_mut().for_each(Grammar::reset);
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
        let mut p = Distribution::default();
        self.target_distribution(logits, &mut p)?;
        out.fill(0.0);
        p.entries().iter().for_each(|(token, p)| out[*token as usize] = *p as f32);
        Ok(())
    }

    /// What the chain leaves of `logits`, with the grammar's mask if `masked`.
    fn survivors(&mut self, logits: &[f32], masked: bool, out: &mut Distribution) -> Result<(), ChainFault> {
        fill(&mut self.candidates, logits).map_err(ChainFault::Base)?;
        if masked && let Some(grammar) = &mut self.grammar {
            grammar.apply(&mut self.candidates).map_err(|_| fault_of(grammar))?;
        }
        let mut array = as_array(&mut self.candidates);
        self.chain.apply(&mut array);
        self.check_hook()?;
        softmax(&array, out)
    }

    fn check_hook(&self) -> Result<(), ChainFault> {
        match self.hook.as_ref().and_then(HookState::take_error) {
            Some(error) => Err(ChainFault::Guide(error)),
            None => Ok(()),
        }
    }

    /// Draws from `logits`, with the grammar's mask if `masked`.
    fn draw(&mut self, logits: &[f32], masked: bool) -> Result<Token, ChainFault> {
        fill(&mut self.candidates, logits).map_err(ChainFault::Base)?;
        if masked && let Some(grammar) = &mut self.grammar {
            grammar.apply(&mut self.candidates).map_err(|_| fault_of(grammar))?;
        }
        let mut array = as_array(&mut self.candidates);
        self.chain.apply(&mut array);
        self.check_hook()?;
        self.selector.apply(&mut array);
        let selected = usize::try_from(array.selected).ok().filter(|i| *i < array.size);
        // SAFETY: a selecting sampler leaves `selected` below `size`, in an array that lives until the next call.
        let chosen = selected.map(|i| unsafe { *array.data.add(i) });
        chosen.filter(|c| c.logit > f32::NEG_INFINITY).map(|c| c.id).ok_or(ChainFault::NoCandidate)
    }

    fn grammar_allows(&mut self, token: Token) -> Result<bool, ChainFault> {
        let Some(grammar) = &mut self.grammar else { return Ok(true) };
        grammar.allows(token).map_err(|TooMuchWork| fault_of(grammar))
    }
}

impl Chain for Sampler {
    fn accept(&mut self, token: Token, generated: bool) {
        // A token that the grammar forbids leaves it where it was. What is too much work for it is an error of the next
        // draw.
        if generated
            && (self.approved.take() == Some(token) || self.grammar_allows(token) == Ok(true))
            && let Some(grammar) = &mut self.grammar
        {
            let _ = grammar.accept(token);
        }
        self.chain.accept(token);
        self.selector.accept(token);
    }

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        let start = Instant::now();
        let mut token = self.draw(logits, false);
        if let Ok(free) = token {
            match self.grammar_allows(free) {
                Ok(true) => {}
                Ok(false) => token = self.draw(logits, true),
                Err(fault) => token = Err(fault),
            }
        }
        self.approved = token.as_ref().ok().copied();
        self.elapsed += start.elapsed();
        token
    }

    /// A grammar asks only where a token that was drawn without it does not fit: so the free distribution keeps what is
    /// allowed of it, and what is not goes to the distribution under the mask.
    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        let start = Instant::now();
        self.survivors(logits, false, out)?;
        if let Some(grammar) = &mut self.grammar {
            self.left.clear();
            self.left.extend(out.entries().iter().map(|(id, _)| sys::llama_token_data { id: *id, logit: 1.0, p: 0.0 }));
            grammar.apply(&mut self.left).map_err(|_| fault_of(grammar))?;
            if self.left.iter().any(|c| c.logit == f32::NEG_INFINITY) {
                let mut masked = std::mem::take(&mut self.masked);
                let result = self.survivors(logits, true, &mut masked);
                out.mix(|place| self.left[place].logit > f32::NEG_INFINITY, &masked);
                self.masked = masked;
                result?;
            }
        }
        self.elapsed += start.elapsed();
        Ok(())
    }

    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        let start = Instant::now();
        fill(&mut self.candidates, logits).map_err(ChainFault::Draft)?;
        let mut array = as_array(&mut self.candidates);
        self.draft.apply(&mut array);
        let result = softmax(&array, out);
        self.elapsed += start.elapsed();
        result
    }
}

impl Guided for Sampler {
    fn prepare(&mut self, history: &[Token], k: usize) {
        if let Some(hook) = &self.hook {
            hook.with_guide(|guide| {
                // With a gate it is not known yet whether the ARMs will be asked.
                if guide.gate().is_none() {
                    guide.prepare(history, k);
                }
            });
        }
    }

    fn start(&mut self) {
        if let Some(hook) = &self.hook {
            hook.with_guide(Guide::start);
        }
    }

    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.with_guide(|guide| guide.prepare_chunk(history, max)))
    }

    fn read(&mut self) -> Result<(), ChainFault> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook.with_guide(|guide| guide.read()).map_err(ChainFault::Guide))
    }

    fn verify(&mut self, history: &[Token], rows: &[f32], k: usize) -> Result<(), ChainFault> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let start = Instant::now();
        let result = hook.with_guide(|guide| {
            let sure = |gate: crate::guidance::Gate| {
                rows.chunks_exact(rows.len() / k).all(|row| gate.is_sure(row.iter().copied()))
            };
            // With a gate the ARMs read along only where they are asked.
            if guide.gate().is_some_and(sure) { Ok(()) } else { guide.advance(history, k) }
        });
        self.elapsed += start.elapsed();
        ends_text(result)
    }

    fn room(&mut self, len: usize) -> usize {
        self.hook.as_ref().map_or(usize::MAX, |hook| hook.with_guide(|guide| guide.room(len)))
    }

    fn guide(&mut self, history: &[Token], logits: &mut [f32]) -> Result<(), ChainFault> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let start = Instant::now();
        let result = hook.with_guide(|guide| guide.add(history, 1, logits));
        self.elapsed += start.elapsed();
        ends_text(result)
    }

    fn arm_row(&mut self, index: usize, history: &[Token], each: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
        let Some(hook) = &self.hook else { return Err(ChainFault::NoCandidate) };
        let start = Instant::now();
        let result = hook.with_guide(|guide| guide.expert_row(index, history).map(each));
        self.elapsed += start.elapsed();
        Ok(result?)
    }
}

/// A full context or a Ctrl-C ends the text. Other failures meet the hook again when a token is drawn; it has a policy
/// for them.
fn ends_text(result: Result<(), GuideError>) -> Result<(), ChainFault> {
    match result {
        Err(error) if matches!(error.source, ExpertError::ContextFull { .. } | ExpertError::Interrupted) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// The softmax of what a chain has left.
fn softmax(array: &sys::llama_token_data_array, out: &mut Distribution) -> Result<(), ChainFault> {
    // SAFETY: a sampler leaves an array of `size` candidates, in our buffer or its own, which lives until its next
    // call.
    let left = unsafe { std::slice::from_raw_parts(array.data, array.size) };
    out.set_logits(left.iter().map(|c| (c.id, c.logit)));
    if out.is_empty() { Err(ChainFault::NoCandidate) } else { Ok(()) }
}

fn fault_of(grammar: &Grammar) -> ChainFault {
    ChainFault::Grammar { field: grammar.field() }
}

/// Fills the candidates with these logits; an error where some are no numbers.
fn fill(candidates: &mut [sys::llama_token_data], logits: &[f32]) -> Result<(), ExpertError> {
    assert_eq!(candidates.len(), logits.len(), "a row of the base's vocabulary");
    let mut sound = true;
    for (i, (candidate, logit)) in candidates.iter_mut().zip(logits).enumerate() {
        sound &= is_number(*logit);
        *candidate = sys::llama_token_data { id: i as Token, logit: *logit, p: 0.0 };
    }
    if sound { Ok(()) } else { check_finite(logits) }
}

fn as_array(candidates: &mut [sys::llama_token_data]) -> sys::llama_token_data_array {
    let size = candidates.len();
    sys::llama_token_data_array { data: candidates.as_mut_ptr(), size, selected: -1, sorted: false }
}
