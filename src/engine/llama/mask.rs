//! Telling apart the rows of one batch that are read with different LoRA adapters.
//!
//! llama.cpp computes an adapter as B·(A·x), for every token of a batch. Where the adapters of several experts are
//! stacked into one, the rank-space activations A·x have a block of rows for each expert. Before B reads them, each
//! block of a token's column is multiplied by a coefficient: 0 where it is another expert's; 1 where it is the token's
//! own, or the preference that the text has for the block's objective. So each token is read with one adapter, and the
//! weights of the model, which is what costs, are read once for all.

use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_cpp_sys_2 as sys;

use super::blocks::{Block, Blocks, find, is_masked};

/// What a batch's tokens keep of a stack of adapters.
#[derive(Debug)]
pub(super) struct Mask {
    blocks: Blocks,
    /// How each token of the batch is read.
    tokens: Vec<Column>,
    /// Of each token that gets logits: llama.cpp drops the others before the last layer's end.
    outputs: Vec<Column>,
    /// The coefficients of all columns, one after the other.
    coefficients: Vec<f32>,
    /// The batch has been decoded: the next token begins another.
    ended: bool,
    /// Matrices seen in the graph of this batch.
    n_seen: usize,
    fault: bool,
    /// A node's numbers, where they lie in a device's memory.
    copy: Vec<u8>,
}

/// How a token is read.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// With which part of the stack; `None` is none.
    part: Option<u8>,
    /// Where its coefficients are.
    first: usize,
    n: usize,
}

impl Mask {
    pub(super) fn new(blocks: Blocks) -> Self {
        Self {
            blocks,
            tokens: Vec::new(),
            outputs: Vec::new(),
            coefficients: Vec::new(),
            ended: false,
            n_seen: 0,
            fault: false,
            copy: Vec::new(),
        }
    }

    /// The next `n` tokens of the batch, of which the last `k` get logits.
    pub(super) fn push(&mut self, n: usize, k: usize, part: Option<u8>, coefficients: &[f32]) {
        if std::mem::take(&mut self.ended) {
            self.tokens.clear();
            self.outputs.clear();
            self.coefficients.clear();
        }
        let column = Column { part, first: self.coefficients.len(), n: coefficients.len() };
        self.coefficients.extend_from_slice(coefficients);
        self.tokens.extend(std::iter::repeat_n(column, n));
        self.outputs.extend(std::iter::repeat_n(column, k));
    }

    /// The batch is complete. Returns whether any token is read with an adapter.
    pub(super) fn begin(&mut self) -> bool {
        (self.n_seen, self.fault) = (0, false);
        self.tokens.iter().any(|column| column.part.is_some())
    }

    /// The batch is computed. Returns whether every matrix was found in its graph, if the adapters were `applied`.
    pub(super) fn end(&mut self, applied: bool) -> bool {
        self.ended = true;
        !self.fault && (!applied || self.n_seen == self.blocks.len())
    }

    /// Multiplies the blocks of a node's columns by their coefficients.
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
        // Recurrent layers keep the tokens of each sequence in a plane of their own; the planes follow each other.
        let n_columns = tensor.ne[1..].iter().map(|n| usize::try_from(*n).unwrap_or(0)).product();
        let is_dense = (1..3).all(|i| tensor.nb[i + 1] == tensor.nb[i] * usize::try_from(tensor.ne[i]).unwrap_or(0));
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
        if !is_dense
            || tensor.type_ != sys::GGML_TYPE_F32
            || tensor.ne[0] != n_rows as i64
            || tensor.nb[0] != size_of::<f32>()
        {
            return;
        }
        // SAFETY: as above; rows are numbers, and columns `nb[1]` bytes apart.
        let n_bytes = unsafe { sys::ggml_nbytes(node) };
        // SAFETY: a computed tensor lies in a buffer.
        let on_host = unsafe { sys::ggml_backend_buffer_is_host(tensor.buffer) };
        if on_host {
            // SAFETY: the tensor's `n_bytes` are in this process's memory, and ours during the call.
            let numbers = unsafe { std::slice::from_raw_parts_mut(tensor.data.cast::<u8>(), n_bytes) };
            scale(numbers, tensor.nb[1], blocks, columns, &self.coefficients);
            self.fault = fault;
            return;
        }
        self.copy.resize(n_bytes, 0);
        // SAFETY: the copy is as long as the tensor.
        unsafe { sys::ggml_backend_tensor_get(node, self.copy.as_mut_ptr().cast(), 0, n_bytes) };
        scale(&mut self.copy, tensor.nb[1], blocks, columns, &self.coefficients);
        // SAFETY: as above.
        unsafe { sys::ggml_backend_tensor_set(node, self.copy.as_ptr().cast(), 0, n_bytes) };
        self.fault = fault;
    }
}

/// Multiplies, in columns of f32 that are `stride` bytes apart, each block by the column's coefficient of it.
fn scale(numbers: &mut [u8], stride: usize, blocks: &[Block], columns: &[Column], coefficients: &[f32]) {
    const SIZE: usize = size_of::<f32>();
    for (numbers, column) in numbers.chunks_mut(stride).zip(columns) {
        let own = coefficients.get(column.first..column.first + column.n).unwrap_or_default();
        for block in blocks {
            let numbers = &mut numbers[block.rows.start * SIZE..block.rows.end * SIZE];
            match block.coefficient_in(column.part, own) {
                1.0 => {}
                // Not a product: 0 · NaN is NaN.
                0.0 => numbers.fill(0),
                coefficient => numbers.as_chunks_mut::<SIZE>().0.iter_mut().for_each(|number| {
                    *number = (f32::from_ne_bytes(*number) * coefficient).to_ne_bytes();
                }),
            }
        }
    }
}

impl Block {
    /// Its coefficient in the column of a token that is read with `part` and these coefficients.
    fn coefficient_in(&self, part: Option<u8>, coefficients: &[f32]) -> f32 {
        match part == Some(self.part) {
            true => self.coefficient.and_then(|at| coefficients.get(at)).copied().unwrap_or(1.0),
            false => 0.0,
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

    const SIZE: usize = size_of::<f32>();

    fn scaled(numbers: &[f32], n_rows: usize, blocks: &[Block], columns: &[(Option<u8>, &[f32])]) -> Vec<f32> {
        let mut mask = Mask::new(Blocks::new());
        columns.iter().for_each(|(part, coefficients)| mask.push(1, 0, *part, coefficients));
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_ne_bytes()).collect();
        scale(&mut bytes, n_rows * SIZE, blocks, &mask.tokens, &mask.coefficients);
        bytes.as_chunks::<SIZE>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
    }

    fn block(part: u8, coefficient: Option<usize>, rows: std::ops::Range<usize>) -> Block {
        Block { part, coefficient, rows }
    }

    #[test]
    fn a_column_keeps_its_own_block_and_loses_the_others() {
        let blocks = [block(0, None, 0..2), block(1, None, 2..3)];
        let found = scaled(&[1.0; 9], 3, &blocks, &[(None, &[]), (Some(0), &[]), (Some(1), &[])]);
        assert_eq!(found, [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_coefficient_of_1_changes_no_bit_and_one_of_0_clears_what_is_no_number() {
        let blocks = [block(0, None, 0..1), block(0, Some(0), 1..2), block(0, Some(1), 2..3)];
        let odd = [f32::MIN_POSITIVE / 8.0, -0.0, f32::from_bits(0x7f80_0001)];
        let found = scaled(&odd, 3, &blocks, &[(Some(0), &[1.0, 1.0])]);
        assert_eq!(found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), odd.map(f32::to_bits));
        assert_eq!(scaled(&[f32::NAN; 3], 3, &blocks, &[(Some(0), &[0.0, 0.0])])[1..], [0.0, 0.0]);
    }

    #[test]
    fn columns_of_one_batch_have_coefficients_of_their_own() {
        let blocks = [block(0, None, 0..1), block(0, Some(0), 1..2), block(0, Some(1), 2..3), block(1, None, 3..4)];
        let columns: [(Option<u8>, &[f32]); 3] = [(Some(0), &[0.5, 2.0]), (Some(1), &[]), (Some(0), &[-1.0])];
        let found = scaled(&[3.0; 12], 4, &blocks, &columns);
        assert_eq!(found, [3.0, 1.5, 6.0, 0.0, 0.0, 0.0, 0.0, 3.0, 3.0, -3.0, 3.0, 0.0]);
    }
}
