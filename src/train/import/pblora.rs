//! The PBLoRA that the authors of PARM train: the adapter of a preference-conditioned ARM.

use super::config::{Conditioned, PeftConfig};
use super::names::place;
use super::{Adapter, Found, ImportError, Model, sum};
use crate::train::parm::Factors;
use crate::train::settings::is_objective_name;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// The four factors as the file names them.
const PARTS: [&str; 4] = ["A", "B", "W1", "W2"];

/// The names of the objectives: those that are given, or those of the file; none for a plain LoRA.
///
/// # Errors
///
/// Names that are missing, too few, or of no use.
pub(super) fn objectives(config: &PeftConfig, given: Vec<String>) -> Result<Vec<String>, String> {
    let Some(conditioned) = config.conditioned() else {
        return match given.is_empty() {
            true => Ok(given),
            false => Err("`peft_type` is LORA, which has no objectives; leave --objectives out".into()),
        };
    };
    let names = if given.is_empty() { conditioned.names.clone() } else { given };
    let n = conditioned.n_objectives;
    if names.len() != n {
        return Err(format!(
            "the adapter has {n} objectives, and {} are named; name them in the order of its preference vector: \
             --objectives NAME,NAME,…",
            names.len()
        ));
    }
    for (i, name) in names.iter().enumerate() {
        if !is_objective_name(name) {
            return Err(format!("an objective cannot be called \"{name}\"; use letters, digits, - and _"));
        }
        if names[..i].contains(name) {
            return Err(format!("the objective {name} is named twice"));
        }
    }
    Ok(names)
}

impl Model<'_> {
    /// The stacked LoRAs of a PBLoRA, the scale in B.
    pub(super) fn convert_conditioned(
        &self,
        config: &PeftConfig,
        conditioned: &Conditioned,
        mut found: Found,
    ) -> Result<Adapter, ImportError> {
        let mut modules: BTreeMap<String, [Option<Tensor>; 4]> = BTreeMap::new();
        for (name, tensor) in std::mem::take(&mut found.tensors) {
            let bad = |reason: String| found.refuse(format!("tensor {name}: {reason}"));
            let Some((module, part)) = part(&name) else {
                return Err(bad("it is no part of a PBLoRA (pblora_A, pblora_B, pblora_W1, pblora_W2)".into()));
            };
            let tensor = tensor.to_dtype(DType::F32).map_err(|e| bad(e.to_string()))?;
            if modules.entry(module.to_owned()).or_default()[part].replace(tensor).is_some() {
                return Err(bad("there is another one for the same matrix".into()));
            }
        }
        if modules.is_empty() {
            return Err(found.refuse("holds no adapter".into()));
        }
        // The authors divide by the rank of the steered part.
        let scale = f64::from(config.alpha()) / conditioned.steered as f64;
        let mut tensors = BTreeMap::new();
        for (module, parts) in modules {
            let bad = |reason: String| found.refuse(format!("{module}: {reason}"));
            let gguf = place(&module).map_err(bad)?;
            let (a, b) = self.stacked(&gguf, parts, conditioned, scale).map_err(bad)?;
            tensors.extend([(format!("{gguf}.lora_a"), a), (format!("{gguf}.lora_b"), b)]);
        }
        let rank = conditioned.shared + conditioned.steered * conditioned.n_objectives;
        Ok(Adapter { alpha: rank as f32, tensors })
    }

    fn stacked(
        &self,
        gguf: &str,
        parts: [Option<Tensor>; 4],
        conditioned: &Conditioned,
        scale: f64,
    ) -> Result<(Tensor, Tensor), String> {
        let missing = parts.iter().position(Option::is_none).unwrap_or(0);
        let [Some(a), Some(b), Some(w1), Some(w2)] = parts else {
            return Err(format!("pblora_{} is missing", PARTS[missing]));
        };
        let Conditioned { shared, steered, n_objectives, .. } = *conditioned;
        let shapes =
            [("A", a.dims(), 0, shared + steered), ("B", b.dims(), 1, shared + steered), ("W1", w1.dims(), 0, shared)];
        for (part, dims, axis, wanted) in shapes {
            if dims.len() != 2 || dims[axis] != wanted {
                return Err(format!(
                    "pblora_{part} is {dims:?}, and its rank should be {wanted} (r1 {shared}, r2 {steered})"
                ));
            }
        }
        if w1.dims() != [shared, shared] || w2.dims() != [n_objectives, steered * steered] {
            return Err(format!(
                "pblora_W1 is {:?} and pblora_W2 {:?}; r1 {shared}, r2 {steered} and {n_objectives} objectives need \
                 [{shared}, {shared}] and [{n_objectives}, {}]",
                w1.dims(),
                w2.dims(),
                steered * steered
            ));
        }
        if ![&a, &b, &w1, &w2].into_iter().all(|tensor| sum(tensor).is_some_and(f32::is_finite)) {
            return Err("its numbers are not finite".into());
        }
        let b = self.fitted(gguf, &a, b)?;
        Factors { a, b, w1, w2 }.stacked(scale).map_err(|e| e.to_string())
    }
}

/// The module of a tensor, and which of [`PARTS`] it is.
fn part(name: &str) -> Option<(&str, usize)> {
    let (module, part) = name.strip_prefix("base_model.model.").unwrap_or(name).rsplit_once(".pblora_")?;
    // Older files keep the adapter's name.
    let part = part.strip_suffix(".default").unwrap_or(part);
    Some((module, PARTS.iter().position(|known| *known == part)?))
}

#[cfg(test)]
mod tests;
