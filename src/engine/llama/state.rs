//! The state of one sequence: copied within a context, or taken out of it and checked before it comes back.

use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::context::Context;
use super::layout::{Layout, StateParts};
use crate::expert::StateError;

/// What a sequence cannot be taken back in by dropping positions, as [`Context::save`] copied it: its recurrent state,
/// and the caches of windows.
#[derive(Debug, Default)]
pub struct SavedState {
    bytes: Vec<u8>,
    /// The context that it belongs to; 0 is none.
    context: u64,
}

/// An exported state that a context has checked. It holds the bytes, so that they stay those that were checked.
#[derive(Debug)]
pub struct CheckedMemory {
    bytes: Arc<Vec<u8>>,
    parts: StateParts,
    n_tokens: usize,
    /// The context that has checked it.
    context: u64,
}

/// Flags of llama.cpp's functions for states: all of a state …
const WHOLE: u32 = 0;
/// … or what cannot be taken back (`LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY`, which the bindings lack).
const PARTIAL: u32 = 1;

impl SavedState {
    /// Its size.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Context {
    /// A copy of what a sequence cannot be taken back in. False where there is none.
    pub fn save(&mut self, seq: usize, state: &mut SavedState) -> bool {
        state.context = 0;
        let saved = self.copy_state(seq, &mut state.bytes, PARTIAL).is_ok();
        if saved {
            state.context = self.id();
        }
        saved
    }

    /// Takes a sequence back to its first `n_tokens` tokens, after which `state` was saved; keys and values of these are
    /// still there. False where this context has not saved the state, or llama.cpp refuses it; then the sequence must be
    /// emptied.
    pub fn go_back(&mut self, seq: usize, state: &SavedState, n_tokens: usize) -> bool {
        state.context == self.id() && self.put_state(seq, &state.bytes, PARTIAL) && self.truncate(seq, n_tokens)
    }

    /// A state that this context has [checked](Self::check_exported_partial), to go back to.
    pub fn adopt(&self, state: &CheckedMemory) -> SavedState {
        let context = if self.has_checked(state) { self.id() } else { 0 };
        SavedState { bytes: state.bytes.to_vec(), context }
    }

    /// A sequence's state of `n_tokens` tokens, in a form that any context of the same model and cache types takes
    /// over.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsupported`] where this module cannot check such a state when it comes back,
    /// [`StateError::Server`],
    /// [`StateError::Memory`].
    pub fn export(&mut self, seq: usize, n_tokens: usize) -> Result<Vec<u8>, StateError> {
        let mut bytes = Vec::new();
        self.copy_state(seq, &mut bytes, WHOLE)?;
        let parts = self.layout().parts(&bytes, n_tokens).map_err(|_| StateError::Unsupported)?;
        Ok(parts.into_one_stream(bytes))
    }

    /// The same of a state that was [saved](Self::save) before: the recurrent state alone.
    ///
    /// # Errors
    ///
    /// As [`export`](Self::export).
    pub fn export_saved(&self, state: &SavedState, n_tokens: usize) -> Result<Vec<u8>, StateError> {
        let parts = self.layout().recurrent_alone().parts(&state.bytes, n_tokens);
        let parts = parts.map_err(|_| StateError::Unsupported)?;
        let mut bytes = Vec::new();
        reserve(&mut bytes, state.bytes.len())?;
        bytes.extend_from_slice(&state.bytes);
        Ok(parts.into_one_stream(bytes))
    }

    /// Checks that bytes are an exported state of `n_tokens` tokens, as far as that can be known without llama.cpp.
    ///
    /// # Errors
    ///
    /// [`StateError::Broken`], [`StateError::TooLong`].
    pub fn check_exported(&self, bytes: &Arc<Vec<u8>>, n_tokens: usize) -> Result<CheckedMemory, StateError> {
        self.check_parts(self.layout(), bytes, n_tokens)
    }

    /// The same of a state that [`export_saved`](Self::export_saved) returned.
    ///
    /// # Errors
    ///
    /// As [`check_exported`](Self::check_exported).
    pub fn check_exported_partial(&self, bytes: &Arc<Vec<u8>>, n_tokens: usize) -> Result<CheckedMemory, StateError> {
        self.check_parts(self.layout().recurrent_alone(), bytes, n_tokens)
    }

    fn check_parts(&self, layout: Layout, bytes: &Arc<Vec<u8>>, n_tokens: usize) -> Result<CheckedMemory, StateError> {
        let n_ctx = self.n_ctx();
        if n_tokens > n_ctx {
            return Err(StateError::TooLong { n_tokens, n_ctx });
        }
        let parts = layout.parts(bytes, n_tokens)?;
        Ok(CheckedMemory { bytes: Arc::clone(bytes), parts, n_tokens, context: self.id() })
    }

    /// Whether this context has [checked](Self::check_exported) it.
    pub fn has_checked(&self, state: &CheckedMemory) -> bool {
        state.context == self.id()
    }

    /// Puts an [exported](Self::export) state in the place of what is there. Returns the first position that it holds in
    /// every layer: above 0 where layers see a window only.
    ///
    /// # Errors
    ///
    /// [`StateError::Refused`], [`StateError::Server`], [`StateError::Memory`]; the sequence is then empty.
    /// [`StateError::Broken`] where another context has checked the state; the sequence is then as it was.
    pub fn import(&mut self, seq: usize, state: &CheckedMemory) -> Result<usize, StateError> {
        if !self.has_checked(state) {
            return Err(StateError::Broken { what: "another context has checked it" });
        }
        self.truncate(seq, 0);
        let n_bytes = state.bytes.len();
        let bytes = state.parts.in_streams(&state.bytes, self.n_streams()).ok_or(StateError::Memory { n_bytes })?;
        let taken = self.put_state(seq, &bytes, WHOLE) && self.holds(seq, state);
        let lost = self.check_state_servers();
        if !taken || lost.is_err() {
            self.truncate(seq, 0);
        }
        lost?;
        if taken { Ok(state.parts.first_position()) } else { Err(StateError::Refused) }
    }

    /// Whether llama.cpp finds the positions in its memory that are in the state.
    fn holds(&self, seq: usize, state: &CheckedMemory) -> bool {
        let Some(seq) = self.seq(seq) else { return false };
        // SAFETY: a context, whose model has a decoder and so has memory, and a sequence of it.
        let (first, last) = unsafe {
            let memory = sys::llama_get_memory(self.as_ptr());
            (sys::llama_memory_seq_pos_min(memory, seq), sys::llama_memory_seq_pos_max(memory, seq))
        };
        let is = |found: i32, expected: usize| usize::try_from(found).ok() == Some(expected);
        // A recurrent state is of one position, the last.
        let expected = if self.model().is_recurrent() { state.n_tokens - 1 } else { state.parts.first_position() };
        is(first, expected) && is(last, state.n_tokens - 1)
    }

    fn layout(&self) -> Layout {
        let model = self.model();
        Layout {
            attention: model.has_attention(),
            values: model.keeps_values(),
            window: model.has_window(),
            recurrent: model.is_recurrent(),
            positions_2d: model.has_2d_positions(),
        }
    }

    fn copy_state(&mut self, seq: usize, bytes: &mut Vec<u8>, flags: u32) -> Result<(), StateError> {
        let Some(seq) = self.seq(seq) else { return Err(StateError::Unsupported) };
        // SAFETY: a context and a sequence of it.
        let n_bytes = unsafe { sys::llama_state_seq_get_size_ext(self.as_ptr(), seq, flags) };
        reserve(bytes, n_bytes)?;
        bytes.resize(n_bytes, 0);
        // SAFETY: as above; the buffer has the size that llama.cpp asks for.
        let n_written =
            unsafe { sys::llama_state_seq_get_data_ext(self.as_ptr(), bytes.as_mut_ptr(), n_bytes, seq, flags) };
        // What a lost server would have sent is all zeros.
        self.check_state_servers()?;
        if n_written == n_bytes { Ok(()) } else { Err(StateError::Unsupported) }
    }

    fn put_state(&mut self, seq: usize, bytes: &[u8], flags: u32) -> bool {
        let Some(at) = self.seq(seq) else { return false };
        // SAFETY: a context and a sequence of it. The bytes are this context's own, or were walked through by `Layout`:
        // positions and counts are those of a sequence that has room. llama.cpp compares types and sizes of rows with
        // its own, reads within the buffer, and catches its exceptions.
        unsafe {
            sys::llama_state_seq_set_data_ext(self.as_ptr(), bytes.as_ptr(), bytes.len(), at, flags) == bytes.len()
        }
    }

    /// Refuses a copy from or to a server that is lost.
    fn check_state_servers(&self) -> Result<(), StateError> {
        match self.lost_server() {
            Some((endpoint, reason)) => Err(StateError::Server { endpoint, reason }),
            None => Ok(()),
        }
    }
}

/// Makes room in a buffer: a state may be larger than the memory that is left. What is in the buffer stays: clearing it
/// would cost a pass over a state at every checkpoint, and llama.cpp writes over it.
fn reserve(bytes: &mut Vec<u8>, n_bytes: usize) -> Result<(), StateError> {
    let n_more = n_bytes.saturating_sub(bytes.len());
    bytes.try_reserve_exact(n_more).map_err(|_| StateError::Memory { n_bytes })
}
