//! The decoding loop: draft, read, judge, draw.
//!
//! ```text
//! history h ──drafter──▶ d1 … dk ──one batch h+d──▶ p1 … pk, pk+1 ──accept──▶ d1 … di, then one token of the target's own
//! ```
//!
//! A plain step is a draft of length 0. The chain goes through the draft token by token and accepts only what is kept,
//! so penalties, DRY, grammars and XTC act as without drafts and never roll back. The experts do: the next step asks
//! for a shorter history.

use std::time::{Duration, Instant};

use super::controller::{Cycle, DraftPlan};
use super::draft::Work;
use super::speculator::{DrafterCount, Policy, Speculator};
use super::{ChainFault, DecodeError, Finish, Flow, Generated, Guided, GuidedChain, Step, Text};
use crate::expert::{Expert, ExpertError, Token};
use crate::logits_cache::CachedExpert;

/// Continues `prompt` by up to `n_predict` tokens. `chain` is at the beginning of a text.
///
/// A speculator changes how fast the text comes, and not its distribution. At temperature 0 the tokens are the same
/// too, but for ties nearer than the noise between batch sizes.
///
/// # Errors
///
/// As [`Text::begin`] and [`Text::step`].
pub fn generate(
    base: &mut dyn Expert,
    chain: &mut dyn GuidedChain,
    mut speculator: Option<&mut Speculator>,
    prompt: &[Token],
    n_predict: usize,
    is_eog: &dyn Fn(Token) -> bool,
    each: &mut dyn FnMut(Step<'_>) -> Flow,
) -> Result<Generated, DecodeError> {
    let mut text = Text::begin(base, chain, prompt, n_predict)?;
    while text.finish().is_none() {
        text.step(base, chain, speculator.as_deref_mut(), is_eog, each)?;
    }
    Ok(text.into_generated())
}

/// Brings the base to `history` and returns its last `k` rows. The ARMs of `guided` compute beside it, or in the same
/// batch.
///
/// Everything is announced first, so that what shares a context decodes together. Then every device starts. ARMs on the
/// CPU read while the base computes on a device; where the base is on the CPU, they read after it, when they are asked.
///
/// # Errors
///
/// When the base fails. An ARM that fails here fails again when it is asked for its rows, and is reported then.
pub fn read_rows<'a>(
    base: &'a mut dyn Expert,
    guided: &mut dyn Guided,
    history: &[Token],
    k: usize,
) -> Result<&'a [f32], ExpertError> {
    guided.prepare(history, k);
    base.prepare(history, k);
    guided.start();
    if base.start() {
        let _ = guided.read();
    }
    base.advance(history, k)
}

impl Text {
    /// Announces the next [`step`](Self::step) to base and ARMs, so that those which share a context with other texts
    /// decode in one batch with them.
    pub fn prepare(&self, base: &mut dyn Expert, chain: &mut dyn GuidedChain) {
        if self.finish.is_none() {
            chain.prepare(&self.history, 1);
            base.prepare(&self.history, 1);
        }
    }

    /// Draws the next token, or ends the text; with a speculator, draws several tokens where a draft is kept. Does
    /// nothing once the text has ended. Steps with and without a speculator may follow each other in any order.
    ///
    /// A full context, the base's or an ARM's, ends the text with [`Finish::Length`]; an interruption with
    /// [`Finish::Interrupted`]. In both cases what was generated is there. A drafter that fails is left out from then
    /// on.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]. Tokens that `each` has seen remain valid.
    pub fn step(
        &mut self,
        base: &mut dyn Expert,
        chain: &mut dyn GuidedChain,
        speculator: Option<&mut Speculator>,
        is_eog: &dyn Fn(Token) -> bool,
        each: &mut dyn FnMut(Step<'_>) -> Flow,
    ) -> Result<(), DecodeError> {
        if self.finish.is_some() {
            return Ok(());
        }
        self.finish = match speculator {
            None => Run { base, chain, text: self, is_eog, each }.step(None)?,
            Some(speculator) => self.speculate(base, chain, speculator, is_eog, each)?,
        };
        if self.finish.is_none() && self.response().len() >= self.n_predict {
            self.finish = Some(Finish::Length);
        }
        Ok(())
    }

    /// A step with a speculator. Where the base drafts, its rows are kept beyond their batch.
    fn speculate(
        &mut self,
        base: &mut dyn Expert,
        chain: &mut dyn GuidedChain,
        speculator: &mut Speculator,
        is_eog: &dyn Fn(Token) -> bool,
        each: &mut dyn FnMut(Step<'_>) -> Flow,
    ) -> Result<Option<Finish>, DecodeError> {
        if self.speculation.drafters.is_empty() {
            let names = speculator.drafters.iter().map(|drafter| drafter.name().to_owned());
            self.speculation.drafters = names.map(|name| DrafterCount { name, ..DrafterCount::default() }).collect();
        }
        if !speculator.drafters.iter().any(|drafter| drafter.keeps_base()) {
            return Run { base, chain, text: self, is_eog, each }.step(Some(speculator));
        }
        let mut store = std::mem::take(&mut speculator.base_rows);
        let mut kept = CachedExpert { expert: base, store: &mut store };
        let finish = Run { base: &mut kept, chain, text: self, is_eog, each }.step(Some(speculator));
        speculator.base_rows = store;
        finish
    }
}

/// One step of a text.
struct Run<'a> {
    base: &'a mut dyn Expert,
    chain: &'a mut dyn GuidedChain,
    text: &'a mut Text,
    is_eog: &'a dyn Fn(Token) -> bool,
    each: &'a mut dyn FnMut(Step<'_>) -> Flow,
}

impl Run<'_> {
    /// Why the text has ended, if it has.
    fn step(&mut self, mut spec: Option<&mut Speculator>) -> Result<Option<Finish>, DecodeError> {
        let start = Instant::now();
        let (len, first) = (self.text.history.len(), self.text.response().is_empty());
        if let Some(spec) = &mut spec {
            spec.keep_pace(self.base.pace());
        }
        // Base and ARMs read the prompt alone: the first token does not wait for a drafter.
        let plan = match &mut spec {
            Some(spec) if !first => {
                let room = self.room(len);
                spec.plan(&self.text.history, room)
            }
            _ => None,
        };
        let (mut drafting, mut catch_up) = (Duration::ZERO, Duration::ZERO);
        if let Some(spec) = &mut spec {
            spec.draft.clear();
            if let Some(plan) = plan
                && let Err(fault) = self.draft(spec, plan, &mut catch_up, &mut drafting)
            {
                self.text.history.truncate(len);
                return ending(fault, false).map(Some);
            }
        }
        let judged = match self.verify(spec.as_deref_mut(), len, first) {
            Ok(judged) => judged,
            Err(Fault::Base(ExpertError::ContextFull { .. })) => return Ok(Some(Finish::Length)),
            Err(Fault::Base(ExpertError::Interrupted)) => return Ok(Some(Finish::Interrupted)),
            Err(Fault::Base(error)) => return Err(error.into()),
            Err(Fault::Chain(fault)) => return ending(fault, first).map(Some),
        };
        if let Some(spec) = spec
            && !first
        {
            let drafted = spec.draft.len();
            let plan = plan.filter(|_| drafted > 0).map(|plan| DraftPlan { k: drafted, ..plan });
            let total = start.elapsed();
            let (kept, emitted) = (judged.kept, judged.kept + usize::from(judged.own.is_some()));
            self.count(plan, emitted, kept, [catch_up, drafting, total, judged.sampling]);
            if let Policy::Auto(controller) = &mut spec.policy {
                controller.record(&Cycle { plan, kept, emitted, seconds: (total - catch_up).as_secs_f64() });
            }
        }
        Ok(judged.finish)
    }

    /// Tokens that may be drafted: as many as base, ARMs and the wanted length leave room for, up to a pause, with one
    /// more of the target's own.
    fn room(&mut self, len: usize) -> usize {
        let room = self.base.n_ctx().saturating_sub(len).min(self.chain.room(len));
        let n = self.text.response().len();
        let end = self
            .text
            .pause
            .filter(|pause| *pause > n)
            .map_or(self.text.n_predict, |pause| pause.min(self.text.n_predict));
        room.min(end - n - 1)
    }

    fn count(&mut self, plan: Option<DraftPlan>, emitted: usize, kept: usize, times: [Duration; 4]) {
        let [catch_up, drafting, total, sampling] = times;
        let stats = &mut self.text.speculation;
        stats.cycles += 1;
        stats.tokens += emitted as u64;
        stats.catch_up += catch_up;
        stats.draft += drafting;
        stats.sampling += sampling;
        stats.verify += total.saturating_sub(catch_up + drafting + sampling);
        if let Some(plan) = plan {
            stats.drafts += 1;
            stats.drafted += plan.k as u64;
            stats.accepted += kept as u64;
            stats.drafters[plan.drafter].drafted += plan.k as u64;
            stats.drafters[plan.drafter].accepted += kept as u64;
        }
    }

    /// Fills `spec.draft`, and adds it to the history. An error ends the text; a drafter that merely fails is left out
    /// from now on.
    fn draft(
        &mut self,
        spec: &mut Speculator,
        plan: DraftPlan,
        catch_up: &mut Duration,
        drafting: &mut Duration,
    ) -> Result<(), ChainFault> {
        /// A drafter that is more tokens behind catches up first, and the time of that is not taken for the time of
        /// drafting.
        const BEHIND: usize = 32;
        let start = Instant::now();
        let drafter = &mut spec.drafters[plan.drafter];
        let behind = spec.offers[plan.drafter].behind;
        let mut work = Work { base: self.base, chain: self.chain, history: &mut self.text.history, rng: &mut spec.rng };
        let mut result = if behind > BEHIND { drafter.catch_up(&mut work) } else { Ok(()) };
        *catch_up = start.elapsed();
        if result.is_ok() {
            result = drafter.draft(&mut work, plan.k, &mut spec.draft);
        }
        *drafting = start.elapsed() - *catch_up;
        let Err(fault) = result else { return Ok(()) };
        let source = match &fault {
            ChainFault::Draft(source) | ChainFault::Base(source) => Some(source),
            ChainFault::Guide(fault) => Some(&fault.source),
            ChainFault::NoCandidate | ChainFault::Grammar { .. } => None,
        };
        match source {
            Some(ExpertError::Interrupted) => return Err(fault),
            None | Some(ExpertError::ContextFull { .. }) => {}
            Some(_) => {
                tracing::warn!(drafter = drafter.name(), %fault, "the drafter failed, decoding goes on without it");
                spec.failed[plan.drafter] = true;
            }
        }
        Ok(())
    }

    /// Reads the draft and draws from it. Afterwards the history holds the text, also where something failed.
    fn verify(&mut self, mut spec: Option<&mut Speculator>, len: usize, first: bool) -> Result<Judged, Fault> {
        let n = self.text.history.len() - len + 1;
        let start = Instant::now();
        let rows = match read_rows(self.base, self.chain, &self.text.history, n) {
            Ok(rows) => rows,
            Err(error) => {
                self.text.history.truncate(len);
                return Err(Fault::Base(error));
            }
        };
        *(if first { &mut self.text.prompt } else { &mut self.text.base }) += start.elapsed();
        // A plain step leaves the ARMs to the chain, which asks them only where its gate does.
        if spec.is_some()
            && let Err(fault) = self.chain.verify(&self.text.history, rows, n)
        {
            self.text.history.truncate(len);
            return Err(fault.into());
        }
        let start = Instant::now();
        let mut judged = Judged::default();
        let n_vocab = rows.len() / n;
        let Self { chain, text, is_eog, each, .. } = self;
        let mut result = Ok(());
        for (i, logits) in rows.chunks_exact(n_vocab).enumerate() {
            let drawn = match spec.as_deref_mut() {
                Some(spec) => spec.judge(*chain, logits, i),
                None => chain.sample(logits).map(|token| (token, false)),
            };
            let (token, keeps) = match drawn {
                Ok(drawn) => drawn,
                Err(fault) => {
                    result = Err(fault);
                    break;
                }
            };
            if is_eog(token) {
                // Drafted or not, it is no token of the text.
                judged.finish = Some(Finish::Eos);
                break;
            }
            let flow = each(Step { token, history: &text.history[..len + i], logits });
            chain.accept(token, true);
            if keeps {
                judged.kept += 1
            } else {
                judged.own = Some(token)
            }
            if flow == Flow::Stop {
                judged.finish = Some(Finish::Stop);
            }
            if !keeps || judged.finish.is_some() {
                break;
            }
        }
        judged.sampling = start.elapsed();
        self.text.history.truncate(len + judged.kept);
        self.text.history.extend(judged.own);
        Ok(result.map(|()| judged)?)
    }
}

/// What became of a draft.
#[derive(Default)]
struct Judged {
    /// Drafted tokens that were kept.
    kept: usize,
    /// The target's own token after them; `None` where the text ended before.
    own: Option<Token>,
    finish: Option<Finish>,
    sampling: Duration,
}

/// What went wrong while a draft was verified.
enum Fault {
    Base(ExpertError),
    Chain(ChainFault),
}

impl From<ChainFault> for Fault {
    fn from(fault: ChainFault) -> Self {
        Self::Chain(fault)
    }
}

/// How a text ends when no further token can be drawn.
fn ending(fault: ChainFault, at_prompt: bool) -> Result<Finish, DecodeError> {
    let source = match &fault {
        ChainFault::Guide(fault) => &fault.source,
        ChainFault::Draft(source) => source,
        ChainFault::Base(source) => return Err(DecodeError::Base(source.clone())),
        ChainFault::NoCandidate | ChainFault::Grammar { .. } => return Err(fault.into()),
    };
    match *source {
        ExpertError::ContextFull { n_ctx, wanted } if at_prompt => {
            Err(DecodeError::PromptTooLong { n_prompt: wanted, n_ctx })
        }
        ExpertError::ContextFull { .. } => Ok(Finish::Length),
        ExpertError::Interrupted => Ok(Finish::Interrupted),
        _ => Err(fault.into()),
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
