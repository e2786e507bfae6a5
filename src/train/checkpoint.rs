//! The state of a run between two steps: weights, optimiser moments and the step number, in one safetensors file.
//!
//! The order of the data and every random draw follow from seed and step, so nothing else needs saving.

use super::optimizer::AdamW;
use super::{TrainError, one_line, write_atomically};
use candle_core::{Device, Tensor, Var};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Writes a checkpoint whole or not at all.
///
/// # Errors
///
/// [`TrainError::Io`] when the disk refuses.
pub fn save(path: &Path, vars: &BTreeMap<String, Var>, adam: &AdamW, fingerprint: &str) -> Result<(), TrainError> {
    let mut tensors = HashMap::new();
    let step = Tensor::new(&[adam.step as i64], &Device::Cpu)?;
    tensors.insert("step".to_string(), step);
    tensors.insert("fingerprint".to_string(), Tensor::new(fingerprint.as_bytes(), &Device::Cpu)?);
    for (name, var) in vars {
        tensors.insert(format!("weight.{name}"), var.as_tensor().detach());
        tensors.insert(format!("first.{name}"), adam.first[name].clone());
        tensors.insert(format!("second.{name}"), adam.second[name].clone());
    }
    write_atomically(path, |temporary| Ok(candle_core::safetensors::save(&tensors, temporary)?))
}

/// Reads a checkpoint into the weights and the optimiser.
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
) -> Result<(), TrainError> {
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
    Ok(())
}
