//! The names that people know matrices by, as the names that GGUF has for them.

use crate::train::TrainError;

/// Every matrix of a block, by its GGUF name.
pub(super) const ALL: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// GGUF names of the matrices that a list names, each once and in the order of the list.
///
/// # Errors
///
/// [`TrainError::Setting`] for a name that no matrix of a block has.
pub(super) fn matrices(names: &[String]) -> Result<Vec<String>, TrainError> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let known = of(name).ok_or_else(|| unknown(name))?;
        for matrix in known {
            if !found.iter().any(|f| f == matrix) {
                found.push((*matrix).to_owned());
            }
        }
    }
    if found.is_empty() {
        return Err(TrainError::Setting("--lora-targets is empty; name some, as q,v or all-linear".into()));
    }
    Ok(found)
}

/// A short name, GGUF's, PEFT's (with or without the path before it), or that of Mistral's own files.
fn of(name: &str) -> Option<&'static [&'static str]> {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_suffix(".weight").unwrap_or(&name);
    Some(match name.rsplit('.').next().unwrap_or(name) {
        "all" | "all-linear" | "all_linear" => &ALL,
        "q" | "q_proj" | "wq" | "attn_q" => &["attn_q"],
        "k" | "k_proj" | "wk" | "attn_k" => &["attn_k"],
        "v" | "v_proj" | "wv" | "attn_v" => &["attn_v"],
        "qkv" | "qkv_proj" | "wqkv" | "attn_qkv" => &["attn_q", "attn_k", "attn_v"],
        "o" | "o_proj" | "wo" | "attn_output" => &["attn_output"],
        "gate" | "gate_proj" | "w1" | "ffn_gate" => &["ffn_gate"],
        "up" | "up_proj" | "w3" | "ffn_up" => &["ffn_up"],
        "gate_up_proj" => &["ffn_gate", "ffn_up"],
        "down" | "down_proj" | "w2" | "ffn_down" => &["ffn_down"],
        _ => return None,
    })
}

fn unknown(name: &str) -> TrainError {
    let hint = match name.rsplit('.').next().unwrap_or(name) {
        "lm_head" | "embed_tokens" | "output" | "token_embd" => {
            "embedding and output have no adapters; --full trains them too"
        }
        _ => "known: q, k, v, o, gate, up, down (or q_proj, k_proj …), and all-linear for all of them",
    };
    TrainError::Setting(format!("--lora-targets: no matrix `{name}` to adapt; {hint}"))
}
