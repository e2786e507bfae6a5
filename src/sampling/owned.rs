//! llama.cpp's samplers, owned from Rust.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::error::ChainError;
use super::vtable::{CustomSampler, into_raw, own_init};
use crate::expert::Token;

/// A `llama_sampler` that we own.
pub(super) struct Owned(NonNull<sys::llama_sampler>);

// SAFETY: samplers have no thread of their own; `&mut` keeps two threads from using one at once.
unsafe impl Send for Owned {}

impl Owned {
    /// Takes ownership of what an init function gave.
    ///
    /// # Safety
    ///
    /// `raw` is NULL or a sampler that no other code frees.
    pub(super) unsafe fn new(raw: *mut sys::llama_sampler) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// A sampler of our own, in C's hands; `None` where memory is short.
    pub(super) fn of<S: CustomSampler>(sampler: S) -> Option<Self> {
        // SAFETY: `own_init` is llama.cpp's `llama_sampler_init`.
        let raw = unsafe { into_raw(sampler, own_init) };
        NonNull::new(raw.cast()).map(Self)
    }

    pub(super) fn apply(&mut self, candidates: &mut sys::llama_token_data_array) {
        // SAFETY: a live sampler and a live array; so in the functions below.
        unsafe { sys::llama_sampler_apply(self.0.as_ptr(), candidates) }
    }

    pub(super) fn accept(&mut self, token: Token) {
        // SAFETY: see `apply`.
        unsafe { sys::llama_sampler_accept(self.0.as_ptr(), token) }
    }

    pub(super) fn reset(&mut self) {
        // SAFETY: see `apply`.
        unsafe { sys::llama_sampler_reset(self.0.as_ptr()) }
    }

    /// A copy; `None` where memory is short.
    pub(super) fn copy(&self) -> Option<Self> {
        // SAFETY: see `apply`; llama.cpp's samplers and our own all have a function that copies them, and the copy is
        // new.
        unsafe { Self::new(sys::llama_sampler_clone(self.0.as_ptr())) }
    }

    /// The names of a chain's samplers, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let chain = self.0.as_ptr();
        // SAFETY: see `apply`; this one is a chain, `i` is below its length, and a name is a static C string.
        let name =
            |i| unsafe { std::ffi::CStr::from_ptr(sys::llama_sampler_name(sys::llama_sampler_chain_get(chain, i))) };
        // SAFETY: see above.
        let n = unsafe { sys::llama_sampler_chain_n(chain) };
        (0..n).map(|i| name(i).to_string_lossy().into_owned()).collect()
    }

    pub(super) fn chain() -> Result<Self, ChainError> {
        // SAFETY: no arguments but defaults.
        let raw = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        // SAFETY: the chain is new.
        unsafe { Self::new(raw) }.ok_or(ChainError::Memory)
    }

    /// Adds what an init function gave.
    ///
    /// # Safety
    ///
    /// As [`new`](Self::new).
    pub(super) unsafe fn add(&mut self, raw: *mut sys::llama_sampler) -> Result<(), ChainError> {
        // SAFETY: by the contract above.
        let added = unsafe { Self::new(raw) }.ok_or(ChainError::Memory)?;
        self.add_owned(added);
        Ok(())
    }

    pub(super) fn add_owned(&mut self, added: Self) {
        // SAFETY: the chain takes ownership of a sampler that no other code frees.
        unsafe { sys::llama_sampler_chain_add(self.0.as_ptr(), added.0.as_ptr()) };
        std::mem::forget(added);
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the only owner, and the last use.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) }
    }
}
