//! What it would take an ARM to guide the base across vocabularies, measured on a sample.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::load::progress;
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{Model, Vocab};
use crate::guidance::translate::Translation;
use crate::guidance::{Arm, Guide, Weights};
use crate::session::translation;
use crate::{TableExpert, Token};

/// Steps that are timed.
const N_TIMED: usize = 32;

/// What a translation has in common with its base, and what it costs.
#[derive(Debug, Clone, Serialize)]
pub struct TranslationReport {
    /// Share of the base's tokens that the ARM has with the same bytes.
    pub same_bytes: f64,
    /// The same among the tokens of the sample.
    pub same_bytes_in_use: f64,
    /// Tokens of the base that the ARM never reaches.
    pub n_unreachable: usize,
    /// Tokens that the ARM reads for each of the base's in the sample.
    pub arm_tokens_per_token: f64,
    /// The pass over both vocabularies, in milliseconds, without the ARM's own evaluation.
    pub step_ms: f64,
}

/// Compares two files' vocabularies, on a text in English or the user's own.
///
/// # Errors
///
/// Why the ARM cannot be translated after all, or a vocabulary not be loaded.
pub fn report(base: &GgufFile, arm: &GgufFile, sample: &str) -> anyhow::Result<TranslationReport> {
    let vocab = |path: &Path| anyhow::Ok(Model::load_vocab(path)?.vocab());
    let (base, arm) = (vocab(base.path())?, vocab(arm.path())?);
    let mut bar = None;
    let translated = translation(&base, &arm, &mut || bar = Some(progress("comparing the vocabularies", 1)));
    bar.into_iter().for_each(|bar| bar.finish_and_clear());
    let translation = std::sync::Arc::new(translated?);
    let of_base = base.tokenize(sample, false, false)?;
    let of_arm = arm.tokenize(sample, false, false)?;
    let overlap = translation.lexicon.overlap();
    let has = |token: &&Token| translation.lexicon.twin(**token).is_some();
    let share = |some: usize, all: usize| some as f64 / all.max(1) as f64;
    Ok(TranslationReport {
        same_bytes: share(overlap.n_equal, overlap.n_base),
        same_bytes_in_use: share(of_base.iter().filter(has).count(), of_base.len()),
        n_unreachable: overlap.n_unreachable,
        arm_tokens_per_token: share(of_arm.len(), of_base.len()),
        step_ms: step(&base, translation, &of_base, of_arm).as_secs_f64() * 1e3,
    })
}

/// The median time that a step of the sample takes, where the ARM's logits cost nothing.
fn step(base: &Vocab, translation: std::sync::Arc<Translation>, text: &[Token], of_arm: Vec<Token>) -> Duration {
    let n_arm = translation.arm.n_tokens();
    // An ARM that expects the sample: its readings are then few, as those of a trained one are.
    let row = move |history: &[Token], logits: &mut [f32]| {
        logits.iter_mut().enumerate().for_each(|(i, logit)| *logit = (i * 7919 % 1000) as f32 / 250.0);
        let next = history.len().checked_sub(1).and_then(|at| of_arm.get(at)).and_then(|t| logits.get_mut(*t as usize));
        next.into_iter().for_each(|logit| *logit += 12.0);
    };
    let expert = TableExpert::new(n_arm, usize::MAX, row);
    let arm = Arm::translated("sample", Box::new(expert), translation);
    let mut guide = Guide::new(vec![arm], Weights::new([("sample".to_owned(), 1.0)]));
    guide.begin(1, vec![Some(vec![0])]);
    let history: Vec<_> = base.bos().into_iter().chain([0]).take(1).chain(text.iter().copied()).collect();
    let mut logits = vec![0.0; base.n_tokens()];
    let mut times = Vec::new();
    for n in 1..history.len().min(N_TIMED + 1) {
        logits.fill(0.0);
        let start = Instant::now();
        if guide.add(&history[..n], 1, &mut logits).is_err() {
            break;
        }
        times.push(start.elapsed());
    }
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
