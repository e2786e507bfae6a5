//! A session that makes many texts at once, and scores them.

use super::{Prompt, Session, Slot};
use crate::decode::text_generator::{GenerateError, GeneratedText, TextGenerator, TextRequest};
use crate::decode::{self, Chain, ChainFault, Distribution, Finish, Flow, Guided};
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

    /// Starts a text in a slot.
    fn begin(&mut self, slot: usize, place: usize, request: &TextRequest) -> Result<Running, Fault> {
        let slot = &mut self.session.slots[slot];
        slot.weights().set_all(&request.weights)?;
        let params = SamplingParams { seed: request.seed, ..self.params.clone() };
        let mut sampler = slot.sampler(&params)?;
        let prompt = &self.prompts[request.prompt];
        slot.rewind(&mut sampler, prompt);
        let mut chain = TopK { sampler, k: request.candidates, row: Vec::new() };
        let text = decode::Text::begin(slot.base(), &mut chain, &prompt.base, self.n_predict)?;
        Ok(Running { place, chain, text })
    }
}

impl TextGenerator for SessionGenerator {
    fn generate(
        &mut self,
        requests: &[TextRequest],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<GeneratedText>, GenerateError> {
        let vocab = self.session.vocab.clone();
        // Where a batch holds other texts, its numbers may differ in the last digit; so no trace of earlier texts is left.
        self.session.slots.iter_mut().for_each(Slot::forget);
        let mut made: Vec<Option<GeneratedText>> = vec![None; requests.len()];
        let mut running: Vec<Option<Running>> = self.session.slots.iter().map(|_| None).collect();
        let mut next = 0;
        loop {
            for (slot, running_text) in running.iter_mut().enumerate() {
                if running_text.is_none() && next < requests.len() {
                    let request = &requests[next];
                    let fail = |source| GenerateError { prompt: request.prompt, source };
                    *running_text = Some(self.begin(slot, next, request).map_err(fail)?);
                    next += 1;
                }
            }
            if running.iter().all(Option::is_none) {
                return Ok(made.into_iter().flatten().collect());
            }
            let slots = self.session.slots.iter_mut();
            for (slot, Running { chain, text, .. }) in slots.zip(&mut running).filter_map(taken) {
                text.prepare(slot.base(), chain);
            }
            for (slot, running_text) in self.session.slots.iter_mut().zip(&mut running) {
                let Some(place) = running_text.as_ref().map(|running| running.place) else { continue };
                let fail = |source| GenerateError { prompt: requests[place].prompt, source };
                if let Some(text) = step(slot, running_text, &vocab).map_err(fail)? {
                    made[place] = Some(text);
                    each();
                }
            }
        }
    }

    fn score(&mut self, prompt: usize, response: &[Token], weights: &[f32]) -> Result<Vec<TokenScore>, GenerateError> {
        let Prompt { base, experts } = &self.prompts[prompt];
        let prompts = ScoredPrompts { base, experts };
        let hook = self.session.hook().clone();
        let expert = self.session.base();
        let scored = hook.with_guide(|guide| score(expert, guide, prompts, response, weights));
        scored.map_err(|source| GenerateError { prompt, source: source.into() })
    }
}

fn taken<'a>((slot, running_text): (&'a mut Slot, &'a mut Option<Running>)) -> Option<(&'a mut Slot, &'a mut Running)> {
    running_text.as_mut().map(|running| (slot, running))
}

/// Draws a token; ends the running text and returns it where that was the last.
fn step(slot: &mut Slot, running_text: &mut Option<Running>, vocab: &Vocab) -> Result<Option<GeneratedText>, Fault> {
    let Some(Running { chain, text, .. }) = running_text else { return Ok(None) };
    text.step(slot.base(), chain, None, &|token| vocab.is_eog(token), &mut |_| Flow::Continue)?;
    let Some(finish) = text.finish() else { return Ok(None) };
    if finish == Finish::Interrupted {
        return Err(ExpertError::Interrupted.into());
    }
    let tokens = text.response().to_vec();
    *running_text = None;
    Ok(Some(GeneratedText { text: vocab.text(&tokens, false), tokens, finish }))
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
