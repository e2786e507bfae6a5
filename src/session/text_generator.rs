//! A session that makes many texts at once, and scores them.

use super::{Prompt, Scheduler, Session, Slot, SlotText};
use crate::decode::text_generator::{GenerateError, GeneratedText, TextGenerator, TextRequest};
use crate::decode::{self, Chain, ChainFault, Distribution, Finish, Flow, Generated, Guided, Speculator};
use crate::engine::llama::Vocab;
use crate::expert::{ExpertError, Token, check_finite};
use crate::guidance::score::{ScoredPrompts, TokenScore, score};
use crate::sampling::Sampler;
use crate::sampling::params::SamplingParams;

/// Makes texts in all slots of a session at once, after a fixed list of prompts.
pub struct SessionGenerator {
    session: Session,
    params: SamplingParams,
    prompts: Vec<Prompt>,
    /// Most tokens per text.
    n_predict: usize,
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A text in a slot.
struct Running {
    /// Place of its request.
    place: usize,
    chain: TopK,
    text: decode::Text,
    vocab: Vocab,
    /// What ended it, other than its own end.
    fault: Option<Fault>,
}

impl SessionGenerator {
    /// A generator that samples by `params` (but for the seed, which each request brings) up to `n_predict` tokens.
    pub fn new(session: Session, params: SamplingParams, prompts: Vec<Prompt>, n_predict: usize) -> Self {
        Self { session, params, prompts, n_predict }
    }

    /// The session that it works with.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Begins the text of the request at `place` in a slot.
    fn begin(&mut self, slot: usize, place: usize, request: &TextRequest) -> Result<Running, Fault> {
        let slot = &mut self.session.slots[slot];
        slot.weights().set_all(&request.weights)?;
        let params = SamplingParams { seed: request.seed, ..self.params.clone() };
        let mut sampler = slot.sampler(&params)?;
        let prompt = &self.prompts[request.prompt];
        slot.rewind(&mut sampler, prompt);
        let mut chain = TopK { sampler, k: request.candidates, row: Vec::new() };
        let text = decode::Text::begin(slot.base(), &mut chain, &prompt.base, self.n_predict)?;
        Ok(Running { place, chain, text, vocab: self.session.vocab.clone(), fault: None })
    }
}

impl TextGenerator for SessionGenerator {
    fn generate(
        &mut self,
        requests: &[TextRequest],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<GeneratedText>, GenerateError> {
        // Where a batch holds other texts, its numbers may differ in the last digit; so no trace of earlier texts is
        // left.
        self.session.slots.iter_mut().for_each(Slot::forget);
        let mut made: Vec<Option<GeneratedText>> = vec![None; requests.len()];
        let mut scheduler = Scheduler::new(self.session.slots.len());
        let mut waiting = requests.iter().enumerate();
        loop {
            for (place, request) in waiting.by_ref().take(scheduler.free().count()) {
                let prompt = &self.prompts[request.prompt].base;
                let Some(slot) = scheduler.choose(&mut self.session.slots, prompt, None) else {
                    unreachable!("as many texts begin as slots are free")
                };
                let fail = |source| GenerateError { prompt: request.prompt, source };
                scheduler.run(slot, self.begin(slot, place, request).map_err(fail)?);
            }
            if scheduler.n_running() == 0 {
                return Ok(made.into_iter().flatten().collect());
            }
            scheduler.step(&mut self.session.slots, None);
            for ended in scheduler.take(|running| running.is_over()) {
                let place = ended.place;
                let fail = |source| GenerateError { prompt: requests[place].prompt, source };
                made[place] = Some(ended.into_generated().map_err(fail)?);
                each();
            }
        }
    }

    fn score(&mut self, prompt: usize, response: &[Token], weights: &[f32]) -> Result<Vec<TokenScore>, GenerateError> {
        let fail = |source| GenerateError { prompt, source };
        // The weights are the score's own; preferences act inside the ARMs.
        self.session.weights().set_all(weights).map_err(|error| fail(error.into()))?;
        let Prompt { base, experts } = &self.prompts[prompt];
        let prompts = ScoredPrompts::new(base, experts);
        let hook = self.session.hook().clone();
        let expert = self.session.base();
        let scored = hook.with_guide(|guide| score(expert, guide, prompts, response, weights));
        scored.map_err(|source| fail(source.into()))
    }
}

impl Running {
    fn is_over(&self) -> bool {
        self.fault.is_some() || self.text.finish().is_some()
    }

    /// The text, which is over.
    fn into_generated(self) -> Result<GeneratedText, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Generated { tokens, finish, .. } = self.text.into_generated();
        if finish == Finish::Interrupted {
            return Err(ExpertError::Interrupted.into());
        }
        Ok(GeneratedText { text: self.vocab.text(&tokens, false), tokens, finish })
    }
}

impl SlotText for Running {
    fn begin_step(&mut self) -> bool {
        true
    }

    fn speculates(&self) -> bool {
        false
    }

    fn prepare_chunk(&mut self, slot: &mut Slot, max: usize) -> bool {
        self.text.prepare_chunk(slot.base(), &mut self.chain, max)
    }

    fn read_chunk(&mut self, slot: &mut Slot) {
        self.fault = self.text.read_chunk(slot.base(), &mut self.chain).err().map(Into::into);
    }

    fn prepare(&mut self, slot: &mut Slot) {
        self.text.prepare(slot.base(), &mut self.chain);
    }

    fn step(&mut self, slot: &mut Slot, speculator: Option<&mut Speculator>) {
        let Self { text, chain, vocab, .. } = self;
        let step = text.step(slot.base(), chain, speculator, &|token| vocab.is_eog(token), &mut |_| Flow::Continue);
        self.fault = step.err().map(Into::into);
    }
}

/// A sampler that is shown only the base's k likeliest tokens.
struct TopK {
    sampler: Sampler,
    k: Option<usize>,
    row: Vec<f32>,
}

impl TopK {
    /// The logits of the k likeliest tokens, the others forbidden; all of them where every token is a candidate.
    fn narrow<'a>(k: Option<usize>, buffer: &'a mut Vec<f32>, logits: &'a [f32]) -> Result<&'a [f32], ChainFault> {
        let Some(k) = k.filter(|k| (1..logits.len()).contains(k)) else { return Ok(logits) };
        // The order below would hide them.
        check_finite(logits).map_err(ChainFault::Base)?;
        buffer.clear();
        buffer.extend_from_slice(logits);
        let (_, kth, _) = buffer.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        let least = *kth;
        buffer.clear();
        buffer.extend(logits.iter().map(|x| if *x >= least { *x } else { f32::NEG_INFINITY }));
        Ok(buffer)
    }
}

impl Chain for TopK {
    fn accept(&mut self, token: Token, generated: bool) {
        self.sampler.accept(token, generated);
    }

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        self.sampler.sample(Self::narrow(self.k, &mut self.row, logits)?)
    }

    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        self.sampler.target_distribution(Self::narrow(self.k, &mut self.row, logits)?, out)
    }

    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        self.sampler.draft_distribution(Self::narrow(self.k, &mut self.row, logits)?, out)
    }
}

impl Guided for TopK {
    fn prepare(&mut self, history: &[Token], k: usize) {
        self.sampler.prepare(history, k);
    }

    fn start(&mut self) {
        self.sampler.start();
    }

    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        self.sampler.prepare_chunk(history, max)
    }

    fn read(&mut self) -> Result<(), ChainFault> {
        self.sampler.read()
    }

    fn verify(&mut self, history: &[Token], rows: &[f32], k: usize) -> Result<(), ChainFault> {
        self.sampler.verify(history, rows, k)
    }

    fn room(&mut self, len: usize) -> usize {
        self.sampler.room(len)
    }

    fn guide(&mut self, history: &[Token], logits: &mut [f32]) -> Result<(), ChainFault> {
        self.sampler.guide(history, logits)
    }

    fn arm_row(&mut self, index: usize, history: &[Token], each: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
        self.sampler.arm_row(index, history, each)
    }
}

#[cfg(test)]
#[path = "text_generator_tests.rs"]
mod tests;
