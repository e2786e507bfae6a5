//! A loaded model: weights and vocabulary.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use llama_cpp_sys_2 as sys;

use super::load_error::LoadError;
use super::params::{ModelParams, SplitMode};
use super::tokenize::Tokenizer;
use super::{backend, device, layers, rpc};
use crate::engine::gguf::GgufFile;

/// Loaded models that are on a device.
static N_ON_DEVICE: AtomicUsize = AtomicUsize::new(0);

/// The weights and the vocabulary of a GGUF. Read-only once loaded, so threads may share it.
#[derive(Debug)]
pub struct Model {
    raw: NonNull<sys::llama_model>,
    file: GgufFile,
    /// How its vocabulary reads texts, found out with the first one.
    tokenizer: OnceLock<Tokenizer>,
    /// Servers that hold a part of it.
    rpc: Vec<String>,
    /// Whether a device computes beside the calling thread.
    on_device: bool,
    /// Written to while an adapter is loaded or freed: llama.cpp keeps a list of them in the model, and reads it,
    /// without a lock of its own, whenever a context is made or plans its graph.
    adapters: RwLock<()>,
    n_adapters: AtomicUsize,
    /// Whether a context longer than the model's training has been reported.
    warned: AtomicBool,
    /// Whether its state can be taken back, once that has been tried.
    takes_back: OnceLock<bool>,
    /// Whether its own head for drafting is loaded.
    has_head: bool,
}

// SAFETY: llama.cpp only reads a loaded model, but for its list of adapters, which `adapters` guards.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Checks and loads a file. `progress` is told the share that is read, from 0 to 1; its `false` ends the loading.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; also where `progress` ended it ([`LoadError::Refused`]).
    pub fn load(
        path: &Path,
        params: &ModelParams,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<Arc<Model>, LoadError> {
        Self::load_file(GgufFile::open_model(path)?, params, progress)
    }

    /// Loads the vocabulary of a file alone, which may have no weights: it takes no longer for larger weights.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn load_vocab(path: &Path) -> Result<Arc<Model>, LoadError> {
        let file = GgufFile::open(path)?;
        let file = if file.vocabulary().is_some() { file } else { GgufFile::open_model(path)? };
        let params = ModelParams { vocab_only: true, n_gpu_layers: Some(0), ..ModelParams::default() };
        Self::load_file(file, &params, &mut |_| true)
    }

    fn load_file(
        file: GgufFile,
        params: &ModelParams,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<Arc<Model>, LoadError> {
        backend::start();
        let path = &file.path().to_owned();
        let c_path = c_path(path)?;
        // SAFETY: no arguments.
        let mut raw_params = unsafe { sys::llama_model_default_params() };
        raw_params.vocab_only = params.vocab_only;
        raw_params.n_gpu_layers = params.n_gpu_layers.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
        raw_params.load_mode = match (params.use_mmap, params.use_mlock) {
            (true, false) => sys::LLAMA_LOAD_MODE_MMAP,
            (true, true) => sys::LLAMA_LOAD_MODE_MMAP_MLOCK,
            (false, true) => sys::LLAMA_LOAD_MODE_MLOCK,
            (false, false) => sys::LLAMA_LOAD_MODE_NONE,
        };
        raw_params.load_mtp = !params.vocab_only && file.lacks_draft_head().is_none();
        let mut has_head = raw_params.load_mtp;
        let mut devices = layers::list(params)?;
        if let Some(devices) = &mut devices {
            raw_params.devices = devices.as_mut_ptr();
        }
        raw_params.split_mode = match params.split_mode {
            SplitMode::None => sys::LLAMA_SPLIT_MODE_NONE,
            SplitMode::Layer => sys::LLAMA_SPLIT_MODE_LAYER,
            SplitMode::Row => sys::LLAMA_SPLIT_MODE_ROW,
        };
        raw_params.main_gpu = i32::try_from(params.main_gpu).unwrap_or(i32::MAX);
        let mut shares = params.tensor_split.0.clone();
        if !shares.is_empty() {
            // llama.cpp reads as many as there may be devices.
            // SAFETY: no arguments.
            shares.resize(unsafe { sys::llama_max_devices() }.max(shares.len()), 0.0);
            raw_params.tensor_split = shares.as_ptr();
        }
        let mut goes_on = true;
        let mut noted = |share| {
            goes_on = progress(share);
            goes_on
        };
        let mut callback: &mut dyn FnMut(f32) -> bool = &mut noted;
        raw_params.progress_callback = Some(report_progress);
        raw_params.progress_callback_user_data = (&raw mut callback).cast();
        // SAFETY: `c_path`, `devices`, `shares` and `callback` live until the call returns, and the file has passed the
        // checks of `GgufFile`.
        let load = |params| NonNull::new(unsafe { sys::llama_model_load_from_file(c_path.as_ptr(), params) });
        let mut raw = load(raw_params);
        if raw.is_none() && has_head && goes_on {
            // A head that llama.cpp does not take is no reason to do without the model.
            (has_head, raw_params.load_mtp) = (false, false);
            raw = load(raw_params);
        }
        if let Some((endpoint, reason)) = rpc::fault(&params.rpc) {
            // SAFETY: nothing stands on the model yet.
            raw.into_iter().for_each(|raw| unsafe { sys::llama_model_free(raw.as_ptr()) });
            return Err(LoadError::Server { endpoint, reason });
        }
        let raw = raw.ok_or_else(|| LoadError::Refused { path: path.to_owned() })?;
        let on_device = params.n_gpu_layers != Some(0) && device::any_used(devices.as_deref());
        let (tokenizer, takes_back, rpc) = (OnceLock::new(), OnceLock::new(), params.rpc.clone());
        let (adapters, n_adapters, warned) = (RwLock::default(), AtomicUsize::new(0), AtomicBool::new(false));
        let model = Model { raw, file, tokenizer, takes_back, rpc, on_device, adapters, n_adapters, warned, has_head };
        N_ON_DEVICE.fetch_add(usize::from(on_device), Ordering::Relaxed);
        // SAFETY: `raw` is a loaded model.
        let generates = params.vocab_only
            || unsafe {
                sys::llama_model_has_decoder(model.as_ptr())
                    && !sys::llama_model_has_encoder(model.as_ptr())
                    && !sys::llama_model_is_diffusion(model.as_ptr())
            };
        if generates { Ok(Arc::new(model)) } else { Err(LoadError::NoDecoder { path: path.to_owned() }) }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.raw.as_ptr()
    }

    /// Held while an adapter is loaded or freed.
    pub(super) fn change_adapters(&self) -> RwLockWriteGuard<'_, ()> {
        self.adapters.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while llama.cpp may read the list of adapters.
    pub(super) fn read_adapters(&self) -> RwLockReadGuard<'_, ()> {
        self.adapters.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an adapter that has come or gone.
    pub(super) fn count_adapter(&self, comes: bool) {
        match comes {
            true => self.n_adapters.fetch_add(1, Ordering::Relaxed),
            false => self.n_adapters.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// LoRA adapters that are loaded on it now.
    pub fn n_adapters(&self) -> usize {
        self.n_adapters.load(Ordering::Relaxed)
    }

    /// Warns, once a model, of a context of `n_ctx` tokens that is longer than the model's training.
    pub(super) fn warn_of_context(&self, n_ctx: u32) {
        let Some(reach) = self.file.n_ctx_reach().filter(|reach| u64::from(n_ctx) > *reach) else { return };
        if !self.warned.swap(true, Ordering::Relaxed) {
            let model = self.file.path().display();
            tracing::warn!(
                "{model}: a context of {n_ctx} tokens is longer than the {reach} that the model was trained for; \
                 later text may be senseless; give --n-ctx {reach} or less"
            );
        }
    }

    /// Its file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    pub(super) fn raw_vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: `raw` is a loaded model.
        unsafe { sys::llama_model_get_vocab(self.as_ptr()) }
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        // SAFETY: the vocabulary of this model, which lives as long as its tokenizer can be reached.
        self.tokenizer.get_or_init(|| unsafe { Tokenizer::new(self.raw_vocab(), &self.file) })
    }

    /// Whether a part of a sequence cannot be dropped from its memory (RWKV, Mamba and hybrids).
    pub fn is_recurrent(&self) -> bool {
        // SAFETY: `raw` is a loaded model.
        unsafe { sys::llama_model_is_recurrent(self.as_ptr()) || sys::llama_model_is_hybrid(self.as_ptr()) }
    }

    /// Whether its recurrent state can be taken back by some tokens: what `trial` found the first time.
    pub(in crate::engine) fn takes_back(&self, trial: impl FnOnce() -> bool) -> bool {
        *self.takes_back.get_or_init(trial)
    }

    /// Whether it keeps keys and values.
    pub(super) fn has_attention(&self) -> bool {
        // SAFETY: `raw` is a loaded model.
        unsafe { !sys::llama_model_is_recurrent(self.as_ptr()) }
    }

    /// Whether it keeps values beside the keys. llama.cpp finds in the same two numbers that it need not.
    pub(super) fn keeps_values(&self) -> bool {
        let is_there = |name| self.file.hparam_u64(name).is_some_and(|n| n > 0);
        !(is_there("attention.key_length_mla") && is_there("attention.value_length_mla"))
    }

    /// The longest context, in tokens, that is computed with the RoPE factors for short contexts, where there are two
    /// sets of factors.
    pub(super) fn n_ctx_of_short_factors(&self) -> Option<u64> {
        let is_there = |name| self.file.any_tensor(name).is_some();
        if !is_there("rope_factors_long.weight") && !is_there("rope_factors_short.weight") {
            return None;
        }
        self.file.hparam_u64("rope.scaling.original_context_length").or_else(|| self.file.n_ctx_train())
    }

    /// Whether some layers see a window of the last tokens only.
    pub(super) fn has_window(&self) -> bool {
        self.window() > 0
    }

    /// How many tokens such layers see; 0 where there are none.
    pub(super) fn window(&self) -> usize {
        // SAFETY: `raw` is a loaded model.
        usize::try_from(unsafe { sys::llama_model_n_swa(self.as_ptr()) }).unwrap_or(0)
    }

    /// Whether its memory notes positions in pictures beside those in the text.
    pub(super) fn has_2d_positions(&self) -> bool {
        // SAFETY: `raw` is a loaded model.
        let rope = unsafe { sys::llama_model_rope_type(self.as_ptr()) };
        matches!(rope, sys::LLAMA_ROPE_TYPE_MROPE | sys::LLAMA_ROPE_TYPE_IMROPE)
    }

    /// The context that it was trained for, in tokens.
    pub fn n_ctx_train(&self) -> usize {
        // SAFETY: `raw` is a loaded model.
        usize::try_from(unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) }).unwrap_or(0)
    }

    /// Whether a device computes beside the calling thread, so that a decode may still run when llama.cpp returns.
    pub fn is_on_device(&self) -> bool {
        self.on_device
    }

    /// Whether any loaded model is on a device.
    pub fn any_on_device() -> bool {
        N_ON_DEVICE.load(Ordering::Relaxed) > 0
    }

    /// Whether servers hold a part of it.
    pub fn has_servers(&self) -> bool {
        !self.rpc.is_empty()
    }

    /// A server that holds a part of the model and is lost: its `host:port`, and what happened.
    pub fn lost_server(&self) -> Option<(String, String)> {
        rpc::fault(&self.rpc)
    }

    /// Numbers of the state that its last layer leaves of a token.
    pub(in crate::engine) fn n_embd_out(&self) -> usize {
        // SAFETY: `raw` is a loaded model.
        usize::try_from(unsafe { sys::llama_model_n_embd_out(self.as_ptr()) }).unwrap_or(0)
    }

    /// Why it cannot draft with a head of its own, as the end of a sentence that begins with its file; `None` where it can.
    pub fn lacks_draft_head(&self) -> Option<String> {
        let damaged = || Some("has a head for drafting that llama.cpp does not take (see --verbose)".into());
        self.file.lacks_draft_head().or_else(|| if self.has_head { None } else { damaged() })
    }

    /// Bytes of all tensors.
    pub fn n_bytes(&self) -> u64 {
        // SAFETY: `raw` is a loaded model.
        unsafe { sys::llama_model_size(self.as_ptr()) }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        N_ON_DEVICE.fetch_sub(usize::from(self.on_device), Ordering::Relaxed);
        // SAFETY: every context, vocabulary and adapter on the model holds its `Arc`, so this is the last use.
        unsafe { sys::llama_model_free(self.as_ptr()) }
    }
}

pub(super) fn c_path(path: &Path) -> Result<CString, LoadError> {
    let fail = || LoadError::Path { path: path.to_owned() };
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    #[cfg(not(unix))]
    let bytes = path.to_str().ok_or_else(fail)?.as_bytes();
    CString::new(bytes).map_err(|_| fail())
}

unsafe extern "C" fn report_progress(share: f32, callback: *mut c_void) -> bool {
    let report = || {
        // SAFETY: `Model::load` passes a pointer to its `&mut dyn FnMut`, alive while llama.cpp loads.
        let callback = unsafe { &mut *callback.cast::<&mut dyn FnMut(f32) -> bool>() };
        callback(share)
    };
    // A panic must not cross into C; the loading ends instead.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(report)).unwrap_or(false)
}
