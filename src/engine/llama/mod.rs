//! A thin safe layer over llama.cpp's C API: what llama-cpp-2 keeps private, or cannot do.
//!
//! A [`Model`] is shared behind an `Arc` and outlives every [`Context`] on it, because each context holds its `Arc`. A
//! context is used through `&mut`, so one thread decodes at a time.
#![allow(unsafe_code)]

#[cfg(feature = "server")]
mod answers;
mod backend;
mod blocks;
mod context;
mod device;
mod draft_head;
mod guarded;
mod layers;
mod layout;
mod load_error;
mod lora;
mod mask;
mod model;
mod numbers;
mod params;
pub mod rpc;
mod state;
mod tokenize;
mod vocab;

#[cfg(feature = "server")]
pub use answers::{AnswerError, AnswerParser, AnswerTemplate};
pub use backend::{Build, backend, build, exit_now, interrupt_flag, start};
pub use blocks::{Block, Blocks};
pub use context::{Adapters, Context, ContextError};
pub use device::{Device, DeviceKind, devices};
pub(super) use draft_head::DraftHead;
#[cfg(test)]
pub(super) use draft_head::Driver;
pub use load_error::LoadError;
pub use lora::{Lora, LoraError};
pub use model::Model;
pub use numbers::to_f32;
pub use params::{CacheType, ContextParams, FlashAttention, ModelParams, SplitMode, TensorSplit};
pub use state::{CheckedMemory, SavedState};
pub use tokenize::{Bound, TokenizeError, bounded};
pub use vocab::Vocab;
