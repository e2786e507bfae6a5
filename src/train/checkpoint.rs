//! The state of a run between two steps: weights, optimiser moments, the step number and the best weights so far, in
//! one safetensors file.
//!
//! The order of the data and every random draw follow from seed and step, so nothing else needs saving.

use super::optimizer::AdamW;
use super::{TrainError, one_line, write_atomically};
use candle_core::{Device, Tensor, Var};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The weights with the lowest held-out loss so far.
#[derive(Debug, Clone)]
pub struct Best {
    /// Updates done.
    pub step: usize,
    /// Their loss on the held-out examples, in nats.
    pub loss: f64,
    /// Their accuracy, of pairs.
    pub accuracy: Option<f64>,
    /// By GGUF tensor name.
    pub weights: BTreeMap<String, Tensor>,
}

/// Writes a checkpoint whole or not at all.
///
/// # Errors
///
/// [`TrainError::Io`] when the disk refuses.
pub fn save(
    path: &Path,
    vars: &BTreeMap<String, Var>,
    adam: &AdamW,
    best: Option<&Best>,
    fingerprint: &str,
) -> Result<(), TrainError> {
    let mut tensors = HashMap::new();
    let step = Tensor::new(&[adam.step as i64], &Device::Cpu)?;
    tensors.insert("step".to_string(), step);
    tensors.insert("fingerprint".to_string(), Tensor::new(fingerprint.as_bytes(), &Device::Cpu)?);
    for (name, var) in vars {
        tensors.insert(format!("weight.{name}"), var.as_tensor().detach());
        tensors.insert(format!("first.{name}"), adam.first[name].clone());
        tensors.insert(format!("second.{name}"), adam.second[name].clone());
    }
    if let Some(best) = best {
        let numbers = [best.step as f64, best.loss, best.accuracy.unwrap_or(f64::NAN)];
        tensors.insert("best".to_string(), Tensor::new(&numbers, &Device::Cpu)?);
        tensors.extend(best.weights.iter().map(|(name, weight)| (format!("best.{name}"), weight.clone())));
    }
    write_atomically(path, |temporary| Ok(candle_core::safetensors::save(&tensors, temporary)?))
}

/// Reads a checkpoint into the weights and the optimiser; returns the best weights so far.
///
/// # Errors
///
/// [`TrainError::Checkpoint`] when it is unreadable or belongs to a run with other settings or data.
pub fn load(
    path: &Path,
    vars: &BTreeMap<String, Var>,
    adam: &mut AdamW,
    fingerprint: &str,
    device: &Device,
) -> Result<Option<Best>, TrainError> {
    let bad = |reason: String| TrainError::Checkpoint { path: path.into(), reason };
    let mut tensors = candle_core::safetensors::load(path, device)
        .map_err(|e| bad(format!("not a readable checkpoint ({})", one_line(&e))))?;
    let mut take = |name: String| tensors.remove(&name).ok_or_else(|| bad(format!("`{name}` is missing")));
    let found = take("fingerprint".into())?.to_vec1::<u8>()?;
    if found != fingerprint.as_bytes() {
        return Err(bad("made with other settings, data or backbone".into()));
    }
    let step = take("step".into())?.to_vec1::<i64>()?;
    for (name, var) in vars {
        var.set(&take(format!("weight.{name}"))?)?;
        let (first, second) = (take(format!("first.{name}"))?, take(format!("second.{name}"))?);
        adam.first.insert(name.clone(), first);
        adam.second.insert(name.clone(), second);
    }
    adam.step = step.first().map_or(0, |s| *s as usize);
    let Some(best) = tensors.remove("best") else { return Ok(None) };
    let [step, loss, accuracy] = best.to_vec1::<f64>()?.try_into().map_err(|_| bad("`best` is damaged".into()))?;
    let mut weight = |name: &String| {
        let weight = tensors.remove(&format!("best.{name}")).ok_or_else(|| bad(format!("`best.{name}` is missing")))?;
        Ok((name.clone(), weight))
    };
    let weights = vars.keys().map(&mut weight).collect::<Result<_, TrainError>>()?;
    Ok(Some(Best { step: step as usize, loss, accuracy: Some(accuracy).filter(|x| !x.is_nan()), weights }))
}
