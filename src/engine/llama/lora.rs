//! LoRA adapters.

use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::load_error::LoadError;
use super::model::{Model, c_path};
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
    #[error("{}: this adapter does not fit {}: {why}; give the model that it was trained on", path.display(), model.display())]
    Unfit {
        /// The adapter.
        path: PathBuf,
        /// The model.
        model: PathBuf,
        /// The first thing that does not fit.
        why: String,
    },
    /// A part of it would not act.
    #[error(
        "{}: llama.cpp computes {name} without adapters, so this one would not act there; \
         give one that is trained on other matrices", path.display()
    )]
    Inert {
        /// The adapter.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// llama.cpp refused it.
    #[error("{}: llama.cpp cannot load this adapter on {} (see --verbose)", path.display(), model.display())]
    Refused {
        /// The adapter.
        path: PathBuf,
        /// The model.
        model: PathBuf,
    },
}

/// A LoRA adapter on a model. Freed when it is dropped: a context that applies it owns it.
#[derive(Debug)]
pub struct Lora {
    raw: NonNull<sys::llama_adapter_lora>,
    scale: f32,
    coefficient: Option<usize>,
    model: Arc<Model>,
}

// SAFETY: an adapter is read-only once loaded, and the model's lock guards the list of adapters that loading and
// freeing change.
unsafe impl Send for Lora {}

impl Lora {
    /// Loads an adapter, to be applied `scale` times.
    ///
    /// # Errors
    ///
    /// [`LoraError`].
    pub fn load(model: &Arc<Model>, path: &Path, scale: f32) -> Result<Self, LoraError> {
        let of_model = || model.file().path().to_owned();
        let file = GgufFile::open_adapter(path)?;
        file.fits(model.file()).map_err(|why| LoraError::Unfit { path: path.to_owned(), model: of_model(), why })?;
        if let Some(name) = file.inert_on(model.file()) {
            return Err(LoraError::Inert { path: path.to_owned(), name });
        }
        let c_path = c_path(path)?;
        let guard = model.change_adapters();
        // SAFETY: the model is loaded, `c_path` lives until the call returns, and nothing reads the model's list of
        // adapters while the lock is held; llama.cpp catches its own exceptions here.
        let raw = unsafe { sys::llama_adapter_lora_init(model.as_ptr(), c_path.as_ptr()) };
        drop(guard);
        let refused = || LoraError::Refused { path: path.to_owned(), model: of_model() };
        let raw = NonNull::new(raw).ok_or_else(refused)?;
        model.count_adapter(true);
        Ok(Self { raw, scale, coefficient: None, model: Arc::clone(model) })
    }

    /// The model that it was loaded on.
    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_adapter_lora {
        self.raw.as_ptr()
    }

    /// The factor on it.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Multiplies its scale by the context's coefficient of this number.
    #[must_use]
    pub fn with_coefficient(mut self, coefficient: Option<usize>) -> Self {
        self.coefficient = coefficient;
        self
    }

    /// How often it is applied under these coefficients.
    pub(super) fn scale_under(&self, coefficients: &[f32]) -> f32 {
        self.scale * self.coefficient.and_then(|at| coefficients.get(at)).unwrap_or(&1.0)
    }
}

impl Drop for Lora {
    fn drop(&mut self) {
        let _guard = self.model.change_adapters();
        // SAFETY: the only owner; a context that applied the adapter has been freed before. The lock is held, as in
        // `load`.
        unsafe { sys::llama_adapter_lora_free(self.raw.as_ptr()) }
        self.model.count_adapter(false);
    }
}
