//! A LoRA that was trained with Hugging Face's PEFT, on a GPU for example, as a GGUF adapter.
//!
//! PEFT keeps `adapter_config.json` and `adapter_model.safetensors` in a folder. llama.cpp reads one alpha for all
//! matrices and scales each by alpha / rank; what PEFT scales otherwise (rsLoRA, `alpha_pattern`) goes into B. In the
//! llama architecture the rows of q and k are in another order in GGUF files, so those of B are put into it (llama.cpp:
//! `LlamaModel.permute` of its converter). What cannot be expressed as a plain LoRA is refused by its name. The PBLoRA of
//! a preference-conditioned ARM becomes the stacked LoRAs of [`super::parm`].

mod config;
mod names;
mod pblora;

use super::about::parm_metadata;
use super::export::{Metadata, write_adapter};
use crate::engine::gguf::{GgufFile, Value};
use crate::train::tokens::vocab_hash;
use candle_core::{DType, Device, Tensor};
use config::PeftConfig;
use names::{Half, Target, target};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Architectures whose matrices correspond one to one, and whether the rows of q and k change places.
const ARCHITECTURES: [(&str, bool); 5] =
    [("llama", true), ("qwen2", false), ("qwen3", false), ("gemma3", false), ("phi3", false)];

/// What to do with an adapter that is more than a LoRA.
const MERGE: &str = "merge it into the model (merge_and_unload), and convert that";

/// Why an adapter cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file that is missing, or says something that a GGUF adapter cannot.
    #[error("{}: {reason}", path.display())]
    Peft {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The backbone cannot be read, or is another.
    #[error("backbone {}: {reason}", path.display())]
    Backbone {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The adapter cannot be written.
    #[error(transparent)]
    Write(#[from] super::TrainError),
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Imported {
    /// The file written.
    pub out: PathBuf,
    /// Matrices with an adapter.
    pub matrices: usize,
    /// Ranks of the adapters, smallest and largest.
    pub ranks: [usize; 2],
    /// Their parameters.
    pub parameters: usize,
    /// The objectives of a preference-conditioned ARM, in the order of α.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<String>,
}

/// An adapter in the words of GGUF: matrices by name, behind one alpha.
struct Adapter {
    alpha: f32,
    tensors: BTreeMap<String, Tensor>,
}

/// What an import is given beside its files.
#[derive(Debug, Clone, Default)]
pub struct ImportSettings {
    /// Whether 16-bit floats are written.
    pub f16: bool,
    /// Names of the objectives of a PBLoRA, in the order of its α.
    pub objectives: Vec<String>,
    /// More metadata (keys `genarm.…`).
    pub about: Metadata,
}

/// Reads the PEFT adapter in `folder` for `backbone`, and writes it to `out`.
///
/// # Errors
///
/// [`ImportError`]; nothing is written then.
pub fn import(folder: &Path, backbone: &Path, out: &Path, settings: ImportSettings) -> Result<Imported, ImportError> {
    let ImportSettings { f16, objectives, about } = settings;
    let file = GgufFile::open_model(backbone)
        .map_err(|e| ImportError::Backbone { path: backbone.into(), reason: e.to_string() })?;
    let model = Model::of(&file)?;
    let config_file = folder.join("adapter_config.json");
    let config = PeftConfig::read(&config_file)?;
    let objectives =
        pblora::objectives(&config, objectives).map_err(|reason| ImportError::Peft { path: config_file, reason })?;
    let found = Found::read(&folder.join("adapter_model.safetensors"))?;
    let mut metadata = about;
    let adapter = match config.conditioned() {
        Some(conditioned) => {
            metadata.extend(parm_metadata(&objectives, conditioned.shared, conditioned.steered));
            model.convert_conditioned(&config, conditioned, found)?
        }
        None => model.convert(&config, found)?,
    };
    let texts = file.vocabulary().map(|v| v.texts()).into_iter().flatten();
    let text = |value: &str| Value::String(value.to_owned());
    for (key, value) in [
        ("genarm.version", text(env!("CARGO_PKG_VERSION"))),
        (
            "genarm.backbone.name",
            text(&file.str("general.name").map_or_else(|| crate::files::model_name(backbone), str::to_owned)),
        ),
        ("genarm.vocab.hash", Value::String(vocab_hash(texts))),
        ("genarm.import.source", text(&config.source())),
    ] {
        metadata.insert(key.into(), value);
    }
    let ranks = || adapter.tensors.iter().filter(|(name, _)| name.ends_with(".lora_b")).map(|(_, b)| b.dims()[1]);
    let imported = Imported {
        out: out.to_owned(),
        matrices: ranks().count(),
        ranks: [ranks().min().unwrap_or(0), ranks().max().unwrap_or(0)],
        parameters: adapter.tensors.values().map(Tensor::elem_count).sum(),
        objectives,
    };
    let arch = file.architecture().unwrap_or_default();
    super::write_atomically(out, |temporary| {
        write_adapter(temporary, arch, adapter.alpha, metadata, &adapter.tensors, f16)
    })?;
    Ok(imported)
}

/// The tensors of an adapter, and the file that they are from.
struct Found {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Found {
    fn read(path: &Path) -> Result<Self, ImportError> {
        let refuse = |reason: String| ImportError::Peft { path: path.into(), reason };
        if !path.exists() && path.with_extension("bin").exists() {
            return Err(refuse("missing; adapter_model.bin is a pickle, save with safe_serialization=True".into()));
        }
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| refuse(e.to_string()))?;
        Ok(Self { path: path.into(), tensors })
    }

    fn refuse(&self, reason: String) -> ImportError {
        ImportError::Peft { path: self.path.clone(), reason }
    }
}

/// What of a backbone an adapter must fit.
struct Model<'a> {
    file: &'a GgufFile,
    permutes: bool,
}

impl<'a> Model<'a> {
    fn of(file: &'a GgufFile) -> Result<Self, ImportError> {
        let arch = file.architecture().unwrap_or_default();
        match ARCHITECTURES.iter().find(|(name, _)| *name == arch) {
            Some((_, permutes)) => Ok(Self { file, permutes: *permutes }),
            None => {
                let known = ARCHITECTURES.map(|(name, _)| name).join(", ");
                let reason = format!("an adapter of the architecture {arch} cannot be imported; known: {known}");
                Err(ImportError::Backbone { path: file.path().into(), reason })
            }
        }
    }

    fn convert(&self, config: &PeftConfig, mut found: Found) -> Result<Adapter, ImportError> {
        let tensors = std::mem::take(&mut found.tensors);
        let refuse = |reason: String| found.refuse(reason);
        let mut pairs: BTreeMap<String, (Target, [Option<Tensor>; 2])> = BTreeMap::new();
        for (name, tensor) in tensors {
            let target = target(&name).map_err(|reason| refuse(format!("tensor {name}: {reason}")))?;
            let tensor = tensor.to_dtype(DType::F32).map_err(|e| refuse(format!("tensor {name}: {e}")))?;
            let half = target.half;
            let entry = pairs.entry(target.gguf.clone()).or_insert_with(|| (target, [None, None]));
            if entry.1[half as usize].replace(tensor).is_some() {
                return Err(refuse(format!("tensor {name}: there is another one for the same matrix")));
            }
        }
        if pairs.is_empty() {
            return Err(refuse("holds no adapter".into()));
        }
        let mut tensors = BTreeMap::new();
        for (gguf, (target, halves)) in pairs {
            let [Some(a), Some(b)] = halves else {
                return Err(refuse(format!("{}: lora_A or lora_B is missing", target.module)));
            };
            let bad = |reason: String| refuse(format!("{}: {reason}", target.module));
            let b = self.fitted(&gguf, &a, b).map_err(bad)?;
            let rank = a.dims()[0];
            let b = (b * config.factor(&target.module, rank)).map_err(|e| bad(e.to_string()))?;
            for (half, tensor) in [(Half::A, a), (Half::B, b)] {
                if !sum(&tensor).is_some_and(f32::is_finite) {
                    return Err(bad("its numbers are not finite".into()));
                }
                tensors.insert(format!("{gguf}.{}", half.gguf()), tensor);
            }
        }
        Ok(Adapter { alpha: config.alpha(), tensors })
    }

    /// B with its rows in the order of the backbone's matrix, once A and B fit it.
    fn fitted(&self, gguf: &str, a: &Tensor, b: Tensor) -> Result<Tensor, String> {
        let matrix =
            self.file.tensor(gguf).ok_or_else(|| format!("the backbone has no {gguf}; is it another model?"))?;
        let (&[rank, n_in], &[n_out, b_rank]) = (a.dims(), b.dims()) else { return Err("it is no matrix".into()) };
        if rank != b_rank || rank == 0 {
            return Err(format!("lora_A has rank {rank}, and lora_B {b_rank}"));
        }
        if matrix.dims != [n_in as u64, n_out as u64] {
            let dims: Vec<String> = matrix.dims.iter().map(u64::to_string).collect();
            return Err(format!(
                "it adapts a matrix of {n_in} × {n_out}, and the backbone's {gguf} is {}; is it another model?",
                dims.join(" × ")
            ));
        }
        let heads = match gguf.rsplit('.').nth(1) {
            Some("attn_q") if self.permutes => "attention.head_count",
            Some("attn_k") if self.permutes => "attention.head_count_kv",
            _ => return Ok(b),
        };
        let heads =
            self.file.hparam_u64(heads).or_else(|| self.file.hparam_u64("attention.head_count")).unwrap_or(0) as usize;
        if heads == 0 || !n_out.is_multiple_of(heads * 2) {
            return Err(format!("{n_out} rows are no {heads} heads"));
        }
        permuted(&b, heads).map_err(|e| e.to_string())
    }
}

/// Rows from PEFT's order (the two halves of a head one after the other) to that of llama.cpp's llama graph (in turns).
fn permuted(b: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (rows, rank) = b.dims2()?;
    b.reshape((heads, 2, rows / heads / 2, rank))?.transpose(1, 2)?.contiguous()?.reshape((rows, rank))
}

fn sum(tensor: &Tensor) -> Option<f32> {
    tensor.abs().and_then(|t| t.sum_all()).and_then(|t| t.to_scalar()).ok()
}

#[cfg(test)]
mod tests;
