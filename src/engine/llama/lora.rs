//! LoRA adapters.

use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::model::{LoadError, Model, c_path};
use crate::engine::gguf::{GgufError, GgufFile};

/// Why an adapter was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// The file is not a sound adapter.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The path cannot be used.
    #[error(transparent)]
    Path(#[from] LoadError),
    /// It is an adapter for another model.
    #[error("{}: this adapter does not fit {}; it was made for another model (see --verbose)", path.display(), model.display())]
    Refused {
        /// The adapter.
        path: PathBuf,
        /// The model.
        model: PathBuf,
    },
}

/// A LoRA adapter on a model.
#[derive(Debug)]
pub struct Lora {
    raw: NonNull<sys::llama_adapter_lora>,
    scale: f32,
    /// llama.cpp frees the adapter together with its model.
    _model: Arc<Model>,
}

// SAFETY: an adapter is read-only once loaded.
unsafe impl Send for Lora {}

impl Lora {
    /// Loads an adapter, to be applied `scale` times.
    ///
    /// # Errors
    ///
    /// [`LoraError`].
    pub fn load(model: &Arc<Model>, path: &Path, scale: f32) -> Result<Self, LoraError> {
        GgufFile::open_adapter(path)?;
        let c_path = c_path(path)?;
        // SAFETY: the model is loaded, and `c_path` lives until the call returns; llama.cpp catches its own exceptions here.
        let raw = unsafe { sys::llama_adapter_lora_init(model.as_ptr(), c_path.as_ptr()) };
        let refused = || LoraError::Refused { path: path.to_owned(), model: model.file().path().to_owned() };
        Ok(Self { raw: NonNull::new(raw).ok_or_else(refused)?, scale, _model: Arc::clone(model) })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_adapter_lora {
        self.raw.as_ptr()
    }

    /// The factor on it.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}
