//! Writing what was trained: a LoRA adapter in llama.cpp's format, or the merged model.

use super::backbone::Backbone;
use super::settings::OutType;
use super::{TrainError, write_atomically};
use crate::engine::gguf::{GgufWriter, TensorType, Value};
use crate::engine::quantize::{FileType, quantize};
use crate::engine::threads::n_cores;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Metadata in key order; keys of a run begin with `genarm.`.
pub type Metadata = BTreeMap<String, Value>;

/// Writes metadata and F32 tensors as a GGUF file, whole or not at all.
///
/// # Errors
///
/// [`TrainError::Io`] when the disk refuses.
pub fn write_gguf(path: &Path, metadata: &Metadata, tensors: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
    write_typed(path, metadata, tensors, false)
}

/// The same with tensors of 16 bits where `f16`.
fn write_typed(
    path: &Path,
    metadata: &Metadata,
    tensors: &BTreeMap<String, Tensor>,
    f16: bool,
) -> Result<(), TrainError> {
    // Numbers first, in memory: the writer borrows them.
    let mut numbers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.to_device(&Device::Cpu)?;
        // GGUF has the fastest running dimension first.
        let dims: Vec<u64> = tensor.dims().iter().rev().map(|d| *d as u64).collect();
        numbers.push((name, dims, tensor.flatten_all()?.to_vec1::<f32>()?));
    }
    let mut writer = GgufWriter::new(path);
    for (key, value) in metadata {
        writer = writer.meta(key, value.clone());
    }
    for (name, dims, data) in &numbers {
        writer = match f16 {
            true => writer.tensor(name, dims, TensorType::F16, half_bytes(data)),
            false => writer.tensor(name, dims, TensorType::F32, data.as_slice()),
        };
    }
    writer.finish()?;
    Ok(())
}

fn half_bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect()
}

/// Writes a run's result to `out`, whole or not at all, with `about` (keys `genarm.…`) in its metadata.
///
/// # Errors
///
/// [`TrainError::Io`]; [`TrainError::Llama`] when llama.cpp does not quantise.
pub fn export(backbone: &Backbone, out_type: OutType, out: &Path, about: Metadata) -> Result<(), TrainError> {
    if let OutType::Adapter | OutType::AdapterF16 = out_type {
        let f16 = out_type == OutType::AdapterF16;
        return write_atomically(out, |temporary| adapter(backbone, temporary, about, f16));
    }
    let mut metadata: Metadata = backbone.file.metadata().iter().cloned().collect();
    // What described the old encoding is written anew by the quantiser.
    metadata.retain(|k, _| !k.starts_with("general.quantization") && !k.starts_with("genarm."));
    metadata.insert("general.file_type".into(), Value::U32(0));
    metadata.extend(about);
    let merged = backbone.merged()?;
    if out_type == OutType::F16 {
        check_f16(&merged)?;
    }
    let file_type = match out_type {
        OutType::F32 | OutType::Adapter | OutType::AdapterF16 => {
            return write_atomically(out, |t| write_gguf(t, &metadata, &merged));
        }
        OutType::F16 => FileType::F16,
        OutType::Q8_0 => FileType::Q8_0,
        OutType::Q4_0 => FileType::Q4_0,
        OutType::Q4KM => FileType::Q4_K_M,
    };
    write_atomically(out, |temporary| {
        // Beside the result, where there is room for it; removed at the end of this block.
        let full = crate::files::temporary(out).map_err(TrainError::io(out))?;
        write_gguf(&full, &metadata, &merged)?;
        quantize(&full, temporary, file_type, n_cores()).map_err(|e| TrainError::Llama(e.to_string()))
    })
}

/// Refuses numbers that 16 bits cannot hold: they would become infinite in silence.
fn check_f16(tensors: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
    const LARGEST: f32 = 65504.0;
    for (name, tensor) in tensors {
        let most = tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        if most > LARGEST {
            let message = format!("{name} holds {most}, more than 16 bits can; pass --out-type f32 or q8_0");
            return Err(TrainError::Setting(message));
        }
    }
    Ok(())
}

fn adapter(backbone: &Backbone, path: &Path, about: Metadata, f16: bool) -> Result<(), TrainError> {
    let Some(lora) = backbone.lora() else { return Err(TrainError::Setting("there is no adapter to write".into())) };
    let mut tensors: BTreeMap<String, Tensor> =
        backbone.trainable().iter().map(|(n, v)| (n.clone(), v.as_tensor().detach())).collect();
    let Some(steered) = lora.steered else {
        return write_adapter(path, &backbone.shape.arch, lora.alpha, about, &tensors, f16);
    };
    let matrices: Vec<String> = tensors.keys().filter_map(|n| n.strip_suffix(".lora_a")).map(str::to_owned).collect();
    tensors.clear();
    for matrix in matrices {
        let Some(factors) = backbone.factors(&matrix) else { continue };
        let (a, b) = factors.stacked(lora.scale())?;
        tensors.extend([(format!("{matrix}.lora_a"), a.detach()), (format!("{matrix}.lora_b"), b.detach())]);
    }
    // As large as the rank: the scale is in B.
    let alpha = (lora.rank + steered.rank * steered.objectives) as f32;
    write_adapter(path, &backbone.shape.arch, alpha, about, &tensors, f16)
}

/// Writes the factors of a LoRA (`MATRIX.lora_a` and `.lora_b`) behind one alpha, as 16-bit floats where `f16`.
///
/// # Errors
///
/// [`TrainError::Io`]; [`TrainError::Setting`] for numbers that 16 bits cannot hold.
pub(super) fn write_adapter(
    path: &Path,
    arch: &str,
    alpha: f32,
    about: Metadata,
    tensors: &BTreeMap<String, Tensor>,
    f16: bool,
) -> Result<(), TrainError> {
    if f16 {
        check_f16(tensors)?;
    }
    let mut metadata = about;
    for (key, value) in [
        ("general.type", Value::String("adapter".into())),
        ("general.architecture", Value::String(arch.into())),
        ("general.file_type", Value::U32(f16.into())),
        ("adapter.type", Value::String("lora".into())),
        ("adapter.lora.alpha", Value::F32(alpha)),
    ] {
        metadata.insert(key.into(), value);
    }
    write_typed(path, &metadata, tensors, f16)
}
