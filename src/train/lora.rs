//! LoRA adapters: which matrices get one, and one to go on from.

use super::TrainError;
use crate::engine::dequantize;
use crate::engine::gguf::GgufFile;
use candle_core::{Tensor, Var};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which matrices get a LoRA adapter, and of what size.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSettings {
    /// Rank r of each adapter.
    pub rank: usize,
    /// The product B·A is scaled by alpha / rank; that of a preference-conditioned adapter by alpha / its steered rank.
    pub alpha: f32,
    /// The part that preferences change, in a preference-conditioned adapter.
    pub steered: Option<Steered>,
    /// Probability with which an input of A is dropped while training.
    pub dropout: f32,
    /// GGUF names of the matrices without block and suffix, as `attn_q`.
    pub targets: Vec<String>,
}

/// The part of a preference-conditioned adapter that preferences change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steered {
    /// Its rank r2; the shared part has [`LoraSettings::rank`].
    pub rank: usize,
    /// Number k of objectives.
    pub objectives: usize,
}

impl LoraSettings {
    /// Rows of A.
    pub fn rows(&self) -> usize {
        self.rank.saturating_add(self.steered.map_or(0, |steered| steered.rank))
    }

    /// What B·A is multiplied by.
    pub fn scale(&self) -> f64 {
        f64::from(self.alpha / self.steered.map_or(self.rank, |steered| steered.rank) as f32)
    }
}

/// Rank, alpha and matrices of an adapter, as a run that trained it had them.
///
/// # Errors
///
/// [`TrainError::Setting`] for a file that is no adapter, or one with matrices of different ranks.
pub(super) fn particulars(path: &Path) -> Result<LoraSettings, TrainError> {
    let refuse = |reason: String| TrainError::Setting(format!("--init {}: {reason}", path.display()));
    let file = GgufFile::open_adapter(path).map_err(|e| refuse(e.to_string()))?;
    let (mut ranks, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for tensor in file.tensors() {
        let Some(matrix) = tensor.name.strip_suffix(".weight.lora_a") else { continue };
        let target =
            matrix.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, target)| target.to_owned());
        targets.insert(target.ok_or_else(|| refuse(format!("{matrix} cannot be trained")))?);
        ranks.insert(tensor.dims.get(1).copied().unwrap_or(0));
    }
    match (ranks.first(), ranks.len()) {
        (Some(rank), 1) => {
            let alpha = file.get("adapter.lora.alpha").and_then(|value| value.as_f64()).filter(|alpha| *alpha > 0.0);
            Ok(LoraSettings {
                rank: *rank as usize,
                // Without alpha llama.cpp scales by 1.
                alpha: alpha.unwrap_or(*rank as f64) as f32,
                steered: None,
                dropout: 0.0,
                targets: targets.into_iter().collect(),
            })
        }
        (Some(_), _) => Err(refuse("its matrices have different ranks, which cannot be trained".into())),
        (None, _) => Err(refuse("there is no LoRA in it".into())),
    }
}

/// Sets what is trained to the adapter's numbers.
///
/// # Errors
///
/// [`TrainError::Setting`] for an adapter of another backbone.
pub(super) fn load(path: &Path, vars: &BTreeMap<String, Var>) -> Result<(), TrainError> {
    let refuse = |reason: String| TrainError::Setting(format!("--init {}: {reason}", path.display()));
    let file = GgufFile::open_adapter(path).map_err(|e| refuse(e.to_string()))?;
    if let Some(extra) = file.tensors().iter().find(|tensor| !vars.contains_key(&tensor.name)) {
        return Err(refuse(format!("the backbone has no place for {}; is it another model?", extra.name)));
    }
    for (name, var) in vars {
        let info = file.tensor(name).ok_or_else(|| refuse(format!("{name} is missing")))?;
        let dims: Vec<usize> = info.dims.iter().rev().map(|n| *n as usize).collect();
        if dims != var.dims() {
            let (found, wanted) = (&dims, var.dims());
            return Err(refuse(format!("{name} is {found:?}, and {wanted:?} on the backbone; is it another model?")));
        }
        let numbers = dequantize::read(&file, info).map_err(|e| refuse(format!("tensor {name}: {e}")))?;
        var.set(&Tensor::from_vec(numbers, dims, var.device())?)?;
    }
    Ok(())
}
