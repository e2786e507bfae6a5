//! LoRA adapters: what llama.cpp asserts about them.

use super::GgufFile;
use super::draft_head;
use super::error::Fault;
use super::parm;
use super::tensor::TensorInfo;
use super::value::Value;

/// Checks the metadata and the tensor pairs of a LoRA adapter.
pub(super) fn check(file: &GgufFile) -> Result<(), Fault> {
    match file.get("adapter.type") {
        None => return Err(Fault::MissingKey("adapter.type".to_owned())),
        Some(Value::String(kind)) if kind == "lora" => {}
        Some(_) => return Err(Fault::bad_key("adapter.type", "only lora adapters can be used")),
    }
    match file.get("adapter.lora.alpha") {
        // llama.cpp takes an absent alpha for "no scaling by rank".
        None => {}
        Some(Value::F32(alpha)) if alpha.is_finite() => {}
        Some(_) => return Err(Fault::bad_key("adapter.lora.alpha", "it must be a finite 32-bit float")),
    }
    if file.get("adapter.alora.invocation_tokens").is_some() {
        let reason =
            "an activated LoRA (aLoRA) acts from these tokens on, and would act everywhere here; train a plain one";
        return Err(Fault::bad_key("adapter.alora.invocation_tokens", reason));
    }
    if file.tensors().is_empty() {
        return Err(Fault::Corrupt("the adapter has no tensors".to_owned()));
    }
    for tensor in file.tensors() {
        let partner = match tensor.name.rsplit_once('.') {
            Some((target, "lora_a")) => format!("{target}.lora_b"),
            Some((target, "lora_b")) => format!("{target}.lora_a"),
            _ if tensor.name.ends_with("_norm.weight") => continue,
            _ => return Err(Fault::Corrupt(format!("{} is no tensor of a LoRA adapter", tensor.name))),
        };
        if file.tensor(&partner).is_none() {
            return Err(Fault::Corrupt(format!("{} has no partner {partner}", tensor.name)));
        }
    }
    parm::read(file).map(|_| ())
}

/// Whether a sound adapter can be put on a model: what llama.cpp asks of it, told by its name. Else why not.
pub(super) fn fits(adapter: &GgufFile, model: &GgufFile) -> Result<(), String> {
    let (own, other) = (adapter.architecture().unwrap_or_default(), model.architecture().unwrap_or_default());
    if own != other {
        return Err(format!("it was trained on the architecture {own}, and the model is {other}"));
    }
    for a in adapter.tensors() {
        let Some(target) = a.name.strip_suffix(".lora_a") else { continue };
        let Some(b) = adapter.tensor(&format!("{target}.lora_b")) else { continue };
        let Some(of_model) = model.any_tensor(target) else {
            return Err(format!("the model has no tensor {target}"));
        };
        // Of an embedding A and B have changed places.
        let (n_in, n_out) = match target.ends_with("token_embd.weight") {
            true => (dim(b, 1), dim(a, 1)),
            false if dim(a, 1) != dim(b, 0) => {
                return Err(format!("the two matrices of {target} have ranks {} and {}", dim(a, 1), dim(b, 0)));
            }
            false => (dim(a, 0), dim(b, 1)),
        };
        let (rows, columns) = (dim(of_model, 0), dim(of_model, 1));
        if (n_in, n_out) != (rows, columns) {
            return Err(format!("{target} is {rows} × {columns} in the model, and {n_in} × {n_out} in the adapter"));
        }
    }
    Ok(())
}

/// The first tensor that an adapter acts on and that llama.cpp multiplies without adapters: a projection of multi-head
/// latent attention, in any model that has them, or a head for drafting.
pub(super) fn inert(adapter: &GgufFile, model: &GgufFile) -> Option<String> {
    const PROJECTIONS: [&str; 7] =
        ["attn_q", "attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_v_b"];
    let is_inert = |target: &str| {
        if draft_head::holds(model, target) {
            return true;
        }
        let Some((layer, name)) = target.strip_suffix(".weight").and_then(|target| target.rsplit_once('.')) else {
            return false;
        };
        PROJECTIONS.contains(&name) && model.any_tensor(&format!("{layer}.attn_kv_a_mqa.weight")).is_some()
    };
    let mut targets = adapter.tensors().iter().filter_map(|tensor| tensor.name.strip_suffix(".lora_a"));
    targets.find(|target| is_inert(target)).map(str::to_owned)
}

/// A dimension as ggml sees it, which fills up with ones.
fn dim(tensor: &TensorInfo, i: usize) -> u64 {
    tensor.dims.get(i).copied().unwrap_or(1)
}
