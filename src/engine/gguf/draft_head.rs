//! The head that a model brings for drafting (multi-token prediction, MTP; "nextn" in llama.cpp).

use super::GgufFile;

/// Architectures whose heads genarm drafts with: the tests compare their drafts with those of llama.cpp's own driver.
const ARCHITECTURES: [&str; 3] = ["qwen35", "qwen35moe", "qwen3next"];

/// Why a file has no head to draft with, as the end of a sentence that begins with the file; `None` where it has one.
pub(super) fn lack(file: &GgufFile) -> Option<String> {
    let architecture = file.architecture().unwrap_or_default();
    let (n_heads, first) = heads(file);
    // Some files say that there is a head, and leave it out.
    let dims = |name| file.any_tensor(&format!("blk.{first}.nextn.{name}.weight")).map(|tensor| &tensor.dims[..]);
    let parts = [dims("eh_proj"), dims("enorm"), dims("hnorm")];
    if n_heads == 0 || first == 0 || parts.contains(&None) {
        return Some("has no head for drafting (MTP layers)".into());
    }
    // llama.cpp ends the process on others.
    if n_heads > 1 {
        return Some(format!("has {n_heads} heads for drafting, and genarm drafts with one"));
    }
    if !ARCHITECTURES.contains(&architecture) {
        let known = ARCHITECTURES.join(", ");
        return Some(format!("is of the architecture {architecture}; genarm drafts with the heads of {known}"));
    }
    // Its states are as wide as the model, and its heads as many as those of the first layer: llama.cpp takes both for granted.
    let n_embd = file.hparam_u64("embedding_length").unwrap_or(0);
    let is_wide = file.hparam("embedding_length_out").is_none_or(|n| n.as_u64() == Some(n_embd));
    let is_even = ["attention.head_count", "attention.head_count_kv"]
        .into_iter()
        .all(|name| file.hparam(name).is_none_or(|n| n.as_u64().is_some()));
    let wanted: [Option<&[u64]>; 3] = [Some(&[2 * n_embd, n_embd]), Some(&[n_embd]), Some(&[n_embd])];
    (parts != wanted || !is_wide || !is_even)
        .then(|| "has a head for drafting whose shape does not fit the model".into())
}

/// Whether a tensor belongs to a head for drafting, which no adapter reaches.
pub(super) fn holds(file: &GgufFile, tensor: &str) -> bool {
    let (n_heads, first) = heads(file);
    let layer =
        tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(layer, _)| layer.parse::<u64>());
    n_heads > 0 && layer.is_some_and(|layer| layer.is_ok_and(|layer| layer >= first))
}

/// Bytes that a token of a draft reads: the head, and the matrix of the logits.
pub(super) fn n_bytes(file: &GgufFile) -> u64 {
    let (_, first) = heads(file);
    let prefix = format!("blk.{first}.");
    let head = file.all_tensors().filter(|tensor| tensor.name.starts_with(&prefix));
    let own = format!("{prefix}nextn.shared_head_head.weight");
    let logits = match file.any_tensor(&own) {
        Some(_) => None, // among those of the head
        None => file.any_tensor("output.weight").or_else(|| file.any_tensor("token_embd.weight")),
    };
    head.chain(logits).fold(0, |sum, tensor| sum.saturating_add(tensor.n_bytes))
}

/// How many heads there are, and the block of the first.
fn heads(file: &GgufFile) -> (u64, u64) {
    let n_heads = file.hparam_u64("nextn_predict_layers").unwrap_or(0);
    (n_heads, file.hparam_u64("block_count").unwrap_or(0).saturating_sub(n_heads))
}
