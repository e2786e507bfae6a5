//! PEFT's names of tensors, and GGUF's.

use super::MERGE;

/// One of the two factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    A,
    B,
}

impl Half {
    pub fn gguf(self) -> &'static str {
        match self {
            Self::A => "lora_a",
            Self::B => "lora_b",
        }
    }
}

/// Where a tensor belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The matrix, as GGUF calls it.
    pub gguf: String,
    /// The module, as PEFT's patterns know it.
    pub module: String,
    pub half: Half,
}

/// Modules of a block, by PEFT's name.
const MODULES: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    // Phi-3's gate and up are one matrix, which GGUF calls up.
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The place of a tensor of `adapter_model.safetensors`.
///
/// # Errors
///
/// Why it has none.
pub(super) fn target(name: &str) -> Result<Target, String> {
    let path = name.strip_prefix("base_model.model.").unwrap_or(name);
    if path.contains("lora_embedding_") {
        return Err(format!("an adapter of the embeddings is not supported; {MERGE}"));
    }
    if path.contains("lora_magnitude_vector") {
        return Err(format!("DoRA is no plain LoRA; {MERGE}"));
    }
    let halves = [(".lora_A", Half::A), (".lora_B", Half::B)];
    let Some((module, rest, half)) =
        halves.into_iter().find_map(|(mark, half)| path.rsplit_once(mark).map(|(module, rest)| (module, rest, half)))
    else {
        return Err(format!("a whole tensor is no LoRA; {MERGE}"));
    };
    // PEFT leaves the adapter's name out; other tools keep it.
    if !rest.ends_with(".weight") || rest.matches('.').count() > 2 {
        return Err(format!("it is no matrix of a LoRA; {MERGE}"));
    }
    Ok(Target { gguf: place(module)?, module: module.to_owned(), half })
}

/// The matrix that a module is, as GGUF calls it.
///
/// # Errors
///
/// Why there is none.
pub(super) fn place(module: &str) -> Result<String, String> {
    if module.ends_with("lm_head") || module.ends_with("embed_tokens") {
        return Err(format!("an adapter of {module} is not supported; {MERGE}"));
    }
    // Multimodal models keep their text model under a name of its own.
    let plain = module.replace("language_model.", "");
    let block = plain.trim_start_matches("model.").strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    let Some((layer, part)) = block.and_then(|(layer, part)| Some((layer.parse::<u32>().ok()?, part))) else {
        return Err("it belongs to no block of a text model".into());
    };
    match MODULES.iter().find(|(peft, _)| *peft == part) {
        Some((_, gguf)) => Ok(format!("blk.{layer}.{gguf}.weight")),
        None => Err(format!("there is no place for an adapter of {part}; {MERGE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peft_lead_to_those_of_gguf() {
        for (name, gguf, half) in [
            ("base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight", "blk.3.attn_q.weight", Half::A),
            ("base_model.model.model.layers.12.mlp.down_proj.lora_B.default.weight", "blk.12.ffn_down.weight", Half::B),
            ("base_model.model.model.layers.0.mlp.gate_up_proj.lora_B.weight", "blk.0.ffn_up.weight", Half::B),
            (
                "base_model.model.model.language_model.layers.1.self_attn.o_proj.lora_A.weight",
                "blk.1.attn_output.weight",
                Half::A,
            ),
            (
                "base_model.model.language_model.model.layers.1.self_attn.v_proj.lora_A.weight",
                "blk.1.attn_v.weight",
                Half::A,
            ),
        ] {
            let found = target(name).unwrap();
            assert_eq!((found.gguf.as_str(), found.half), (gguf, half), "{name}");
        }
        for (name, part) in [
            ("base_model.model.model.embed_tokens.lora_embedding_A", "embeddings"),
            ("base_model.model.lm_head.lora_A.weight", "lm_head"),
            ("base_model.model.lm_head.weight", "a whole tensor"),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "DoRA"),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", "no matrix"),
            ("base_model.model.model.layers.0.block_sparse_moe.gate.lora_A.weight", "no place"),
            ("base_model.model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.weight", "no block"),
        ] {
            let reason = target(name).unwrap_err();
            assert!(reason.contains(part), "{name}: {reason}");
        }
    }
}
