//! LoRA adapters: what llama.cpp asserts about them.

use super::GgufFile;
use super::error::Fault;
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
    Ok(())
}
