//! Telling apart the rows of one batch that are read with different LoRA adapters.
//!
//! llama.cpp computes an adapter as B·(A·x), for every token of a batch. Where the adapters of several experts are
//! stacked into one, the rank-space activations A·x have a block of rows for each expert; a token's column keeps the
//! block of its own expert, and the others are set to zero before B reads them. So each token is read with one adapter,
//! and the weights of the model, which is what costs, are read once for all.

use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_cpp_sys_2 as sys;

use super::blocks::{Block, Blocks, find, is_masked};

/// What a batch's tokens keep of a stack of adapters.
#[derive(Debug)]
pub(super) struct Mask {
    blocks: Blocks,
    /// Of each token of the batch, the part that it is read with.
    tokens: Vec<Option<u8>>,
    /// Of each token that gets logits: llama.cpp drops the others before the last layer's end.
    outputs: Vec<Option<u8>>,
    /// The batch has been decoded: the next token begins another.
    ended: bool,
    /// Matrices seen in the graph of this batch.
    n_seen: usize,
    fault: bool,
    /// A node's numbers, where they lie in a device's memory.
    copy: Vec<u8>,
}

impl Mask {
    pub(super) fn new(blocks: Blocks) -> Self {
        Self {
            blocks,
            tokens: Vec::new(),
            outputs: Vec::new(),
            ended: false,
            n_seen: 0,
            fault: false,
            copy: Vec::new(),
        }
    }

    /// The next token of the batch.
    pub(super) fn push(&mut self, part: Option<u8>, output: bool) {
        if std::mem::take(&mut self.ended) {
            self.tokens.clear();
            self.outputs.clear();
        }
        self.tokens.push(part);
        if output {
            self.outputs.push(part);
        }
    }

    /// The batch is complete. Returns whether any token is read with an adapter.
    pub(super) fn begin(&mut self) -> bool {
        (self.n_seen, self.fault) = (0, false);
        self.tokens.iter().any(Option::is_some)
    }

    /// The batch is computed. Returns whether every matrix was found in its graph, if the adapters were `applied`.
    pub(super) fn end(&mut self, applied: bool) -> bool {
        self.ended = true;
        !self.fault && (!applied || self.n_seen == self.blocks.len())
    }

    /// Sets the foreign blocks of a node's columns to zero.
    ///
    /// # Safety
    ///
    /// `node` has been computed, and nobody reads or writes it during the call.
    unsafe fn apply(&mut self, node: *mut sys::ggml_tensor, name: &[u8]) {
        // Until the node is done it is a fault of the batch: so a panic is one too.
        let fault = std::mem::replace(&mut self.fault, true);
        // SAFETY: by the contract above.
        let tensor = unsafe { &*node };
        let Some(blocks) = find(&self.blocks, name) else { return };
        self.n_seen += 1;
        let n_columns = usize::try_from(tensor.ne[1]).unwrap_or(0);
        let n_rows = blocks.iter().map(|block| block.rows.end).max().unwrap_or(0);
        let columns = match n_columns {
            0 => {
                self.fault = fault;
                return;
            }
            n if n == self.tokens.len() => &self.tokens,
            n if n == self.outputs.len() => &self.outputs,
            _ => return,
        };
        if tensor.type_ != sys::GGML_TYPE_F32 || tensor.ne[0] != n_rows as i64 || tensor.nb[0] != size_of::<f32>() {
            return;
        }
        // SAFETY: as above; rows are numbers, and columns `nb[1]` bytes apart.
        let n_bytes = unsafe { sys::ggml_nbytes(node) };
        // SAFETY: a computed tensor lies in a buffer.
        let on_host = unsafe { sys::ggml_backend_buffer_is_host(tensor.buffer) };
        if on_host {
            // SAFETY: the tensor's `n_bytes` are in this process's memory, and ours during the call.
            let numbers = unsafe { std::slice::from_raw_parts_mut(tensor.data.cast::<u8>(), n_bytes) };
            clear(numbers, tensor.nb[1], blocks, columns);
            self.fault = fault;
            return;
        }
        self.copy.resize(n_bytes, 0);
        // SAFETY: the copy is as long as the tensor.
        unsafe { sys::ggml_backend_tensor_get(node, self.copy.as_mut_ptr().cast(), 0, n_bytes) };
        clear(&mut self.copy, tensor.nb[1], blocks, columns);
        // SAFETY: as above.
        unsafe { sys::ggml_backend_tensor_set(node, self.copy.as_ptr().cast(), 0, n_bytes) };
        self.fault = fault;
    }
}

/// Sets to zero, in columns of f32 that are `stride` bytes apart, the blocks that are not the column's own.
fn clear(numbers: &mut [u8], stride: usize, blocks: &[Block], columns: &[Option<u8>]) {
    for (column, own) in numbers.chunks_mut(stride).zip(columns) {
        for block in blocks.iter().filter(|block| Some(block.part) != *own) {
            column[block.rows.start * size_of::<f32>()..block.rows.end * size_of::<f32>()].fill(0);
        }
    }
}

/// llama.cpp's `cb_eval`: asked before a node is computed whether its result is wanted, told afterwards that it is
/// there.
///
/// # Safety
///
/// `data` is the [`Mask`] of the context that computes, and nobody else uses it while it does.
pub(super) unsafe extern "C" fn mask_node(node: *mut sys::ggml_tensor, ask: bool, data: *mut c_void) -> bool {
    // SAFETY: llama.cpp hands out nodes of a live graph, whose sources are NULL or live tensors with NUL-terminated
    // names.
    let (name, n_rows) = unsafe {
        let source = (*node).src[0];
        if (*node).op != sys::GGML_OP_MUL_MAT || source.is_null() {
            return !ask;
        }
        (CStr::from_ptr((*source).name.as_ptr()).to_bytes(), (*source).ne[1])
    };
    // SAFETY: by the contract above.
    let mask = unsafe { &mut *data.cast::<Mask>() };
    // A panic must not cross into C; it is a fault of the batch, as `apply` notes before it begins.
    let masked = catch_unwind(AssertUnwindSafe(|| {
        let masked = is_masked(&mask.blocks, name, n_rows);
        if masked && !ask {
            // SAFETY: by the contract above, and the node has been computed.
            unsafe { mask.apply(node, name) };
        }
        masked
    }));
    masked.unwrap_or(false) || !ask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_keeps_its_own_block_and_loses_the_others() {
        let block = |part, rows| Block { part, rows };
        let blocks = [block(0, 0..2), block(1, 2..3)];
        let mut numbers: Vec<u8> = [1.0f32; 9].iter().flat_map(|x| x.to_le_bytes()).collect();
        clear(&mut numbers, 12, &blocks, &[None, Some(0), Some(1)]);
        let floats: Vec<_> = numbers.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(floats, [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
