//! What a GGUF file holds.

use super::GgufFile;
use std::fmt;

/// What a GGUF file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// A causal language model: what a base and an ARM must be.
    Model,
    /// A LoRA adapter for a model.
    Adapter,
    /// A vocabulary without weights.
    VocabOnly,
    /// A model that gives vectors or scores in place of next-token logits: embedding models and rerankers.
    Embedding,
    /// The image or audio part of a multimodal model (mmproj).
    Projector,
    /// A model that makes pictures or films.
    Image,
    /// An importance matrix or a control vector.
    Other,
}

/// Architectures of models that make pictures or films, as the tools that run those name them.
const IMAGES: &[&str] = &[
    "flux",
    "sd1",
    "sd3",
    "sdxl",
    "aura",
    "auraflow",
    "ltxv",
    "hyvid",
    "wan",
    "cosmos",
    "hidream",
    "lumina2",
    "qwen_image",
    "chroma",
    "z_image",
];

/// Architectures of encoders: they have no next-token output.
const ENCODERS: &[&str] = &[
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "gemma-embedding",
    "llama-embed",
    "t5encoder",
    "wavtokenizer-dec",
];

impl ModelKind {
    /// Judges by the metadata alone, so that damaged hyper-parameters are still reported as such.
    pub(super) fn of(file: &GgufFile) -> ModelKind {
        let architecture = file.architecture().unwrap_or_default();
        match file.str("general.type") {
            Some("adapter") => return ModelKind::Adapter,
            Some("mmproj") => return ModelKind::Projector,
            Some("imatrix") => return ModelKind::Other,
            _ => {}
        }
        let pools = file.hparam_u64("pooling_type").is_some_and(|pooling| pooling != 0);
        let bidirectional = file.hparam("attention.causal").and_then(|v| v.as_bool()) == Some(false);
        match architecture {
            "clip" => ModelKind::Projector,
            "controlvector" | "imatrix" => ModelKind::Other,
            _ if IMAGES.contains(&architecture) => ModelKind::Image,
            // The first file of a split model may have no tensors of its own.
            _ if file.tensors().is_empty() && !file.is_split() => ModelKind::VocabOnly,
            _ if ENCODERS.contains(&architecture) || pools || bidirectional => ModelKind::Embedding,
            _ => ModelKind::Model,
        }
    }

    /// What to do when `wanted` was asked for and the file is `self`.
    pub(super) fn advice(self, wanted: ModelKind) -> &'static str {
        match (wanted, self) {
            (ModelKind::Adapter, ModelKind::Model) => "give it as a model, and a LoRA adapter in GGUF here",
            (ModelKind::Adapter, _) => "give a LoRA adapter in GGUF",
            (_, ModelKind::Adapter) => "give it under `lora:` of the model that it was trained on",
            (_, ModelKind::VocabOnly) => "give the file that has the weights too",
            (_, ModelKind::Embedding) => "it gives no next-token logits; give a causal language model",
            (_, ModelKind::Projector) => "give the language model that it belongs to",
            _ => "give a causal language model in GGUF",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelKind::Model => "a language model",
            ModelKind::Adapter => "a LoRA adapter",
            ModelKind::VocabOnly => "a vocabulary without weights",
            ModelKind::Embedding => "an embedding model",
            ModelKind::Projector => "a multimodal projector",
            ModelKind::Image => "a model for pictures or films",
            ModelKind::Other => "a helper file (importance matrix or control vector)",
        })
    }
}
