//! One context for several experts on the same weights: the base and its LoRA ARMs as rows of one batch.
//!
//! An expert that reads the weights alone pays for reading them; rows of one batch pay once. What is added are the
//! adapters' own small products and the masking between them (see [`stack`] and `llama/mask.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::llama::{Adapters, ContextError, ContextParams, LoraError, Model};
use super::origin::OriginFiles;
use super::sequence::Sequence;
use super::stack::{Part, Scaled, StackError, acts_on_responses_only, has_objectives, side_by_side, stack};
use crate::expert::{Expert, ExpertError, Token, check_finite};

/// Why experts do not share a context.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Their adapters cannot be stacked.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// An adapter cannot be loaded.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// No context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// An expert cannot be read in a context of its own either.
    #[error(transparent)]
    Apart(Box<ShareError>),
    /// A probe could not be decoded.
    #[error(transparent)]
    Expert(#[from] ExpertError),
    /// An expert's own logits are no numbers.
    #[error("expert {expert}: {source}")]
    Broken {
        /// Which of the experts.
        expert: usize,
        /// What they hold.
        source: ExpertError,
    },
    /// A probe gave other logits than in a context of its own.
    #[error("expert {expert} differs by {distance:.2e} from a context of its own, where batches differ by {noise:.2e}")]
    Differs {
        /// Which of the experts.
        expert: usize,
        /// Root mean square of the differences of its logits.
        distance: f32,
        /// The same between two sizes of a batch without adapters.
        noise: f32,
    },
}

/// Makes a context with a row for each expert and slot: `sequences[expert][slot]`. `experts` are their adapters.
///
/// # Errors
///
/// [`ShareError`].
pub fn together(
    model: &Arc<Model>,
    experts: &[Vec<Scaled<'_>>],
    params: &ContextParams,
    n_slots: usize,
) -> Result<Vec<Vec<Sequence>>, ShareError> {
    together_with_spares(model, experts, &[], params, n_slots)
}

/// The same where the experts in `spares` are read only for some texts.
///
/// llama.cpp computes sequences of a batch in one go only where their numbers follow each other (`split_equal` in its
/// llama-batch.cpp). So the sequences that most texts use do.
///
/// # Errors
///
/// [`ShareError`].
pub fn together_with_spares(
    model: &Arc<Model>,
    experts: &[Vec<Scaled<'_>>],
    spares: &[usize],
    params: &ContextParams,
    n_slots: usize,
) -> Result<Vec<Vec<Sequence>>, ShareError> {
    let adapted: Vec<_> = experts.iter().filter(|adapters| !adapters.is_empty()).cloned().collect();
    let adapters = if adapted.is_empty() { Adapters::All(Vec::new()) } else { stack(model, &adapted)? };
    let mut next = 0;
    let mut part = |adapters: &Vec<Scaled<'_>>| {
        if adapters.is_empty() {
            return Ok(None);
        }
        next += 1;
        Ok(Some(Part { block: next - 1, response_only: acts_on_responses_only(adapters)? }))
    };
    let parts = experts.iter().map(&mut part).collect::<Result<Vec<_>, StackError>>()?;
    if let (true, Some(i)) = (model.is_recurrent(), parts.iter().position(|part| part.is_some_and(|p| p.response_only)))
    {
        return Err(StackError::Recurrent { path: experts[i][0].0.to_owned() }.into());
    }
    let order = order(experts.len(), spares, n_slots);
    let parts_in_order: Vec<_> = order.iter().map(|expert| parts[*expert]).collect();
    let rows = Sequence::together(model, adapters, params, &parts_in_order)?;
    let mut sequences: Vec<Vec<Sequence>> = experts.iter().map(|_| Vec::with_capacity(n_slots)).collect();
    order.into_iter().zip(rows).for_each(|(expert, row)| sequences[expert].push(row));
    let of_files = |(slots, adapters): (_, &Vec<_>)| of_files(slots, model, adapters, params);
    Ok(sequences.into_iter().zip(experts).map(of_files).collect())
}

/// The expert of each sequence: those of a slot follow each other, but for the spares, which come last.
fn order(n_experts: usize, spares: &[usize], n_slots: usize) -> Vec<usize> {
    let (spares, common): (Vec<_>, Vec<_>) = (0..n_experts).partition(|expert| spares.contains(expert));
    [common.repeat(n_slots), spares.repeat(n_slots)].concat()
}

/// Notes what the sequences of one expert are made of.
fn of_files(
    mut slots: Vec<Sequence>,
    model: &Arc<Model>,
    adapters: &[Scaled<'_>],
    params: &ContextParams,
) -> Vec<Sequence> {
    let rope_factors = slots.first().and_then(Sequence::rope_factors);
    let files = Arc::new(OriginFiles::new(model, adapters, params, rope_factors));
    slots.iter_mut().for_each(|sequence| sequence.set_files(&files));
    slots
}

/// Makes a context for one expert, with a row for each slot.
///
/// # Errors
///
/// [`ShareError::Lora`], [`ShareError::Context`]; [`ShareError::Stack`] of adapters that act on responses alone.
pub fn apart(
    model: &Arc<Model>,
    adapters: &[Scaled<'_>],
    params: &ContextParams,
    n_slots: usize,
) -> Result<Vec<Sequence>, ShareError> {
    if acts_on_responses_only(adapters)? {
        // Only in a stack the tokens of a batch can be read without their adapter.
        return Ok(together(model, &[adapters.to_vec()], params, n_slots)?.remove(0));
    }
    let context = |n_slots: usize| -> Result<Vec<Sequence>, ShareError> {
        let loras = adapters.iter().map(|adapter| side_by_side(model, *adapter)).collect::<Result<Vec<_>, _>>()?;
        let loras = loras.into_iter().flatten().collect();
        Ok(Sequence::together(model, Adapters::All(loras), params, &vec![None; n_slots])?)
    };
    let slots = match n_slots > 1 && has_objectives(adapters)? {
        false => context(n_slots)?,
        // Each slot has preferences of its own, and llama.cpp's factors on adapters are those of a whole context.
        true => return Ok(together(model, &[adapters.to_vec()], params, n_slots)?.remove(0)),
    };
    Ok(of_files(slots, model, adapters, params))
}

/// What a token costs all experts together.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Costs {
    /// One after the other, each in a context of its own, in seconds.
    pub apart: f64,
    /// As rows of one batch, in seconds.
    pub together: f64,
}

/// Small contexts of the experts, apart and together, to compare.
pub struct Probe {
    apart: Vec<Sequence>,
    together: Vec<Sequence>,
    /// As many rows without adapters.
    plain: Vec<Sequence>,
    text: Vec<Token>,
}

/// Tokens that a probe can read.
const N_PROBE: u32 = 64;

impl Probe {
    /// Makes the contexts.
    ///
    /// # Errors
    ///
    /// [`ShareError`].
    pub fn new(model: &Arc<Model>, experts: &[Vec<Scaled<'_>>], params: &ContextParams) -> Result<Self, ShareError> {
        let n = u32::try_from(experts.len()).unwrap_or(u32::MAX);
        let params = ContextParams { n_ctx: N_PROBE, n_batch: 2 * n, n_ubatch: 2 * n, ..params.clone() };
        // First, because it names the adapter that cannot be loaded.
        let one = |adapters: &Vec<Scaled<'_>>| -> Result<Sequence, ShareError> {
            // llama.cpp adds the blocks of a PARM up in another order than a stack does. Where activations are quantised,
            // that alone makes other logits.
            Ok(match has_objectives(adapters)? {
                true => together(model, std::slice::from_ref(adapters), &params, 1)?.remove(0).remove(0),
                false => apart(model, adapters, &params, 1)?.remove(0),
            })
        };
        let apart = experts.iter().map(one).collect::<Result<Vec<_>, _>>();
        let mut apart = apart.map_err(|error| ShareError::Apart(Box::new(error)))?;
        let mut together: Vec<_> = together(model, experts, &params, 1)?.into_iter().flatten().collect();
        // Of adapters with objectives, each block acts differently.
        for sequence in apart.iter_mut().chain(&mut together) {
            sequence.set_coefficients(&[0.5, 0.25, 0.75, 0.125]);
        }
        let none = Adapters::All(Vec::new());
        let plain = Sequence::together(model, none, &params, &vec![None; experts.len()])?;
        // Ids from the middle of a vocabulary are ordinary tokens.
        let n_vocab = model.vocab().n_tokens() as u32;
        let token = |i| (n_vocab / 2 + i * 7919 % (n_vocab / 4).max(1)) as Token;
        let text = (0..N_PROBE).map(token).collect();
        Ok(Self { apart, together, plain, text })
    }

    /// Compares two tokens of every expert apart and together: attention sees an adapter's keys from the second on.
    ///
    /// # Errors
    ///
    /// [`ShareError::Differs`], [`ShareError::Expert`].
    pub fn check(&mut self) -> Result<(), ShareError> {
        let history = &self.text[..2];
        for sequence in self.together.iter_mut().chain(&mut self.plain) {
            sequence.prepare(history, 1);
        }
        // The noise between a batch of one sequence and a batch of several, without any adapter.
        let alone = self.plain[0].advance(history, 1)?.to_vec();
        check_finite(&alone)?;
        let mut rows = Vec::new();
        for sequence in &mut self.plain[1..] {
            rows.push(sequence.advance(history, 1)?.to_vec());
        }
        self.plain[0].prepare(&history[..1], 1);
        self.plain[0].advance(&history[..1], 1)?;
        let single = self.plain[0].advance(history, 1)?;
        let noise = rows.iter().chain([&alone]).map(|row| distance(row, single)).fold(0.0, f32::max);
        for (expert, (apart, together)) in self.apart.iter_mut().zip(&mut self.together).enumerate() {
            let apart = apart.advance(history, 1)?;
            check_finite(apart).map_err(|source| ShareError::Broken { expert, source })?;
            let distance = distance(apart, together.advance(history, 1)?);
            if distance.is_nan() || distance > 1e-3 + 3.0 * noise {
                return Err(ShareError::Differs { expert, distance, noise });
            }
        }
        Ok(())
    }

    /// Times a token of all experts, apart and together in turns; the medians.
    ///
    /// # Errors
    ///
    /// [`ShareError::Expert`].
    pub fn measure(&mut self) -> Result<Costs, ShareError> {
        let (mut apart, mut together) = (Vec::new(), Vec::new());
        for n in 3..9 {
            let history = &self.text[..n];
            let start = Instant::now();
            for sequence in &mut self.apart {
                sequence.advance(history, 1)?;
            }
            apart.push(start.elapsed());
            let start = Instant::now();
            self.together.iter_mut().for_each(|sequence| sequence.prepare(history, 1));
            self.together[0].advance(history, 1)?;
            together.push(start.elapsed());
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        };
        Ok(Costs { apart: median(&mut apart), together: median(&mut together) })
    }
}

/// Root mean square of the differences of two rows, after their means: a constant changes no probability.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().max(1) as f64;
    let differences = || a.iter().zip(b).map(|(a, b)| f64::from(a - b));
    let mean = differences().sum::<f64>() / n;
    (differences().map(|d| (d - mean).powi(2)).sum::<f64>() / n).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_that_all_texts_use_follow_each_other() {
        assert_eq!(order(2, &[], 3), [0, 1, 0, 1, 0, 1]);
        assert_eq!(order(3, &[1, 2], 3), [0, 0, 0, 1, 2, 1, 2, 1, 2]);
        assert_eq!(order(4, &[1], 2), [0, 2, 3, 0, 2, 3, 1, 1]);
    }
}
