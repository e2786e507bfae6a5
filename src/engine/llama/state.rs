//! The state of one sequence: copied within a context, or taken out of it and checked before it comes back.

use llama_cpp_sys_2 as sys;

use super::context::Context;
use super::layout::Layout;
use crate::expert::StateError;

/// The state of one sequence of one context, as [`Context::save`] made it.
#[derive(Debug, Default)]
pub struct SavedState {
    bytes: Vec<u8>,
    /// The context that it belongs to; 0 is none.
    context: u64,
}

impl Context {
    /// A copy of a sequence's state, for memories that cannot be truncated.
    pub fn save(&mut self, seq: usize, state: &mut SavedState) -> bool {
        state.context = 0;
        let saved = self.copy_state(seq, &mut state.bytes);
        if saved {
            state.context = self.id();
        }
        saved
    }

    /// Puts a saved state in the place of what is there. False, and nothing is changed, where this context has not
    /// saved it.
    pub fn restore(&mut self, seq: usize, state: &SavedState) -> bool {
        if state.context != self.id() {
            return false;
        }
        self.put_state(seq, &state.bytes)
    }

    /// A sequence's state of `n_tokens` tokens, in a form that any context of the same model and cache types takes over.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsupported`] where this module cannot check such a state when it comes back.
    pub fn export(&mut self, seq: usize, n_tokens: usize) -> Result<Vec<u8>, StateError> {
        let mut state = SavedState::default();
        if !self.save(seq, &mut state) {
            return Err(StateError::Unsupported);
        }
        self.export_saved(&state, n_tokens)
    }

    /// The same of a state that was [saved](Self::save) before.
    ///
    /// # Errors
    ///
    /// As [`export`](Self::export).
    pub fn export_saved(&self, state: &SavedState, n_tokens: usize) -> Result<Vec<u8>, StateError> {
        let parts = self.layout().parts(&state.bytes, n_tokens).map_err(|_| StateError::Unsupported)?;
        Ok(parts.in_streams(&state.bytes, 1))
    }

    /// Whether bytes are an exported state of `n_tokens` tokens, as far as that can be known without llama.cpp.
    ///
    /// # Errors
    ///
    /// [`StateError::Broken`], [`StateError::TooLong`].
    pub fn check_exported(&self, state: &[u8], n_tokens: usize) -> Result<(), StateError> {
        let n_ctx = self.n_ctx();
        if n_tokens > n_ctx {
            return Err(StateError::TooLong { n_tokens, n_ctx });
        }
        self.layout().parts(state, n_tokens).map(|_| ())
    }

    /// Puts an [exported](Self::export) state in the place of what is there. Returns the first position that it holds in
    /// every layer: above 0 where layers see a window only.
    ///
    /// # Errors
    ///
    /// [`StateError`]. Where llama.cpp refuses the state, the sequence is empty; else it is as before.
    pub fn import(&mut self, seq: usize, state: &[u8], n_tokens: usize) -> Result<usize, StateError> {
        self.check_exported(state, n_tokens)?;
        let parts = self.layout().parts(state, n_tokens)?;
        let bytes = parts.in_streams(state, self.n_streams());
        match self.put_state(seq, &bytes) {
            true => Ok(parts.first_position()),
            false => {
                self.truncate(seq, 0);
                Err(StateError::Refused)
            }
        }
    }

    fn layout(&self) -> Layout {
        let model = self.model();
        Layout {
            attention: model.has_attention(),
            window: model.has_window(),
            recurrent: model.is_recurrent(),
            positions_2d: model.has_2d_positions(),
        }
    }

    fn copy_state(&mut self, seq: usize, bytes: &mut Vec<u8>) -> bool {
        let Some(seq) = self.seq(seq) else { return false };
        // SAFETY: a context and a sequence of it; the buffer has the size that llama.cpp asks for.
        unsafe {
            bytes.resize(sys::llama_state_seq_get_size(self.as_ptr(), seq), 0);
            sys::llama_state_seq_get_data(self.as_ptr(), bytes.as_mut_ptr(), bytes.len(), seq) == bytes.len()
        }
    }

    fn put_state(&mut self, seq: usize, bytes: &[u8]) -> bool {
        let Some(at) = self.seq(seq) else { return false };
        self.truncate(seq, 0);
        // SAFETY: a context and a sequence of it. The bytes are this context's own, or were walked through by `Layout`:
        // positions and counts are those of a sequence that has room. llama.cpp compares types and sizes of rows with
        // its own, reads within the buffer, and catches its exceptions.
        unsafe { sys::llama_state_seq_set_data(self.as_ptr(), bytes.as_ptr(), bytes.len(), at) == bytes.len() }
    }
}
