//! Hyper-parameters: what llama.cpp asserts about them, checked so that a bad file is an error and not an abort.

use super::GgufFile;
use super::error::Fault;
use super::value::{Array, Value};

/// llama.cpp's limits (`LLAMA_MAX_LAYERS`, `LLAMA_MAX_EXPERTS`).
const BLOCKS_MAX: u64 = 512;
const EXPERTS_MAX: u64 = 1024;

/// Checks the hyper-parameters of a causal language model.
pub(super) fn check(file: &GgufFile) -> Result<(), Fault> {
    require(file, "context_length", 1, u64::from(u32::MAX >> 1))?;
    let n_embd = require(file, "embedding_length", 1, u64::from(u32::MAX >> 1))?;
    let n_blocks = require(file, "block_count", 1, BLOCKS_MAX)?;
    check_heads(file, n_embd, n_blocks)?;
    check_experts(file)?;
    if scalar(file, "nextn_predict_layers")?.is_some_and(|n| n > n_blocks) {
        return Err(bad(file, "nextn_predict_layers", format!("it is larger than block_count, {n_blocks}")));
    }
    for name in ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"] {
        let value = file.hparam(name);
        if value.is_some() && !value.and_then(Value::as_f64).is_some_and(|eps| eps.is_finite() && eps >= 0.0) {
            return Err(bad(file, name, "it must be a small positive number".into()));
        }
    }
    match file.hparam("rope.scaling.type").map(Value::as_str) {
        None | Some(Some("none" | "linear" | "yarn" | "longrope")) => {}
        _ => return Err(bad(file, "rope.scaling.type", "it must be none, linear, yarn or longrope".into())),
    }
    check_embedding(file)
}

fn check_heads(file: &GgufFile, n_embd: u64, n_blocks: u64) -> Result<(), Fault> {
    let Some(value) = file.hparam("attention.head_count") else {
        return if is_recurrent(file) {
            Ok(())
        } else {
            Err(Fault::MissingKey(file.hparam_key("attention.head_count")))
        };
    };
    let is_none = |array: &Array| (0..array.len()).all(|layer| array.u64_at(layer) == Some(0));
    if value.as_u64() != Some(0)
        && file.hparam("attention.head_count_kv").and_then(Value::as_array).is_some_and(is_none)
    {
        return Err(bad(file, "attention.head_count_kv", "no layer has attention".into()));
    }
    if let Some(array) = value.as_array() {
        let n = array.len() as u64;
        return match n == n_blocks {
            true => Ok(()),
            false => Err(bad(file, "attention.head_count", format!("{n} entries for {n_blocks} layers"))),
        };
    }
    let n_head = scalar(file, "attention.head_count")?.unwrap_or(0);
    if n_head == 0 {
        return if is_recurrent(file) { Ok(()) } else { Err(bad(file, "attention.head_count", "it is 0".into())) };
    }
    if file.hparam("attention.key_length").is_none() && !n_embd.is_multiple_of(n_head) {
        let problem = format!("embedding_length {n_embd} is not a multiple of {n_head} heads");
        return Err(bad(file, "attention.head_count", problem));
    }
    let n_head_kv = match file.hparam("attention.head_count_kv").map(Value::as_u64) {
        Some(Some(n)) => n,
        _ => n_head, // absent, or one number a layer
    };
    if n_head_kv == 0 && !is_recurrent(file) || n_head_kv > 0 && !n_head.is_multiple_of(n_head_kv) {
        let problem = format!("{n_head} heads cannot share {n_head_kv} key-value heads");
        return Err(bad(file, "attention.head_count_kv", problem));
    }
    if scalar(file, "rope.dimension_count")?.is_some_and(|n| !n.is_multiple_of(2)) {
        return Err(bad(file, "rope.dimension_count", "it must be even".into()));
    }
    check_head_size(file, n_embd / n_head)
}

/// llama.cpp ends the process where a file asks a graph that rotates whole heads to rotate a part of each.
fn check_head_size(file: &GgufFile, default: u64) -> Result<(), Fault> {
    if !matches!(file.architecture(), Some("llama" | "qwen2" | "qwen3")) {
        return Ok(());
    }
    let key_length = scalar(file, "attention.key_length")?.unwrap_or(default);
    let value_length = scalar(file, "attention.value_length")?.unwrap_or(default);
    if value_length != key_length {
        let problem = format!("it is {value_length}, and must be that of the keys, {key_length}");
        return Err(bad(file, "attention.value_length", problem));
    }
    match scalar(file, "rope.dimension_count")? {
        Some(n) if n != key_length => {
            let problem = format!("it is {n}, and must be the size of a head, {key_length}");
            Err(bad(file, "rope.dimension_count", problem))
        }
        _ => Ok(()),
    }
}

fn check_experts(file: &GgufFile) -> Result<(), Fault> {
    let n_expert = scalar(file, "expert_count")?.unwrap_or(0);
    if n_expert > EXPERTS_MAX {
        return Err(bad(file, "expert_count", format!("{n_expert} is more than {EXPERTS_MAX}")));
    }
    if file.hparam("expert_used_count").is_some_and(|v| v.as_array().is_some()) {
        return Ok(());
    }
    let n_used = scalar(file, "expert_used_count")?.unwrap_or(0);
    // llama.cpp lets dense files of these architectures say that they have one expert.
    let dense = n_expert <= 1 && file.architecture().is_some_and(|name| name.starts_with("hunyuan"));
    if !dense && (n_used > n_expert || n_expert > 0 && n_used == 0) {
        return Err(bad(file, "expert_used_count", format!("{n_used} of {n_expert} experts cannot be used")));
    }
    let n_groups = scalar(file, "expert_group_count")?.unwrap_or(0);
    if n_groups > 0 && (n_groups >= n_expert || !n_expert.is_multiple_of(n_groups)) {
        return Err(bad(file, "expert_group_count", format!("{n_expert} experts do not make {n_groups} groups")));
    }
    let n_groups_used = scalar(file, "expert_group_used_count")?.unwrap_or(0);
    if n_groups > 1 && !(1..n_groups).contains(&n_groups_used) {
        return Err(bad(
            file,
            "expert_group_used_count",
            format!("{n_groups_used} of {n_groups} groups cannot be used"),
        ));
    }
    Ok(())
}

/// The embedding must have a row for each token: a table cut for another vocabulary is a common conversion fault.
fn check_embedding(file: &GgufFile) -> Result<(), Fault> {
    let (Some(vocabulary), Some(embedding)) = (file.vocabulary(), file.tensor("token_embd.weight")) else {
        return Ok(());
    };
    let n_tokens = vocabulary.n_tokens() as u64;
    match embedding.dims[..] {
        [_, rows] if rows != n_tokens => {
            Err(Fault::Corrupt(format!("token_embd.weight has {rows} rows for a vocabulary of {n_tokens} tokens")))
        }
        _ => Ok(()),
    }
}

/// The longest context that a model gives sense in. llama.cpp stretches the context that positions were trained for by
/// the file's factor, and takes that to be the file's context where it names no original one.
pub(super) fn n_ctx_reach(file: &GgufFile) -> Option<u64> {
    let trained = file.n_ctx_train()?;
    let number = |name| file.hparam(name).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 1.0);
    let factor = number("rope.scaling.factor").or_else(|| number("rope.scale_linear")).unwrap_or(1.0);
    if file.hparam("rope.scaling.type").and_then(Value::as_str) == Some("none") {
        return Some(trained);
    }
    let original = file.hparam_u64("rope.scaling.original_context_length").unwrap_or(trained);
    Some(trained.max((original as f64 * factor) as u64))
}

/// Models with state-space or RWKV layers, or short convolutions, may have no attention heads at all.
pub(super) fn is_recurrent(file: &GgufFile) -> bool {
    let kinds = ["ssm.", "wkv.", "shortconv.", "kda."].map(|kind| file.hparam_key(kind));
    file.metadata().iter().any(|(key, _)| kinds.iter().any(|kind| key.starts_with(kind)))
}

fn require(file: &GgufFile, name: &str, min: u64, max: u64) -> Result<u64, Fault> {
    match scalar(file, name)? {
        None => Err(Fault::MissingKey(file.hparam_key(name))),
        Some(n) if (min..=max).contains(&n) => Ok(n),
        Some(n) => Err(bad(file, name, format!("{n} is not between {min} and {max}"))),
    }
}

fn scalar(file: &GgufFile, name: &str) -> Result<Option<u64>, Fault> {
    match file.hparam(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(n) => Ok(Some(n)),
            None => Err(bad(file, name, "it must be a count".into())),
        },
    }
}

fn bad(file: &GgufFile, name: &str, problem: String) -> Fault {
    Fault::bad_key(file.hparam_key(name), problem)
}
