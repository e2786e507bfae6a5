//! Which rows of a stack of adapters belong to whom, and which tensors of a graph they are.

use std::collections::HashMap;
use std::ops::Range;

/// Rows of a stacked `lora_a` that belong to one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The part of the stack.
    pub part: u8,
    /// Which of a token's coefficients its rows are multiplied by; `None` is 1.
    pub coefficient: Option<usize>,
    /// Its rows.
    pub rows: Range<usize>,
}

/// The blocks of each stacked matrix, by the name of its tensor (`blk.0.attn_q.weight.lora_a`).
pub type Blocks = HashMap<String, Vec<Block>>;

/// The longest name that ggml keeps (`GGML_MAX_NAME`, without its NUL); it cuts longer ones off.
const NAME_BYTES_MAX: usize = 63;

/// The blocks of the matrix that a tensor of this name is, or is a copy of.
///
/// Where a node runs on another backend than its source lies on, ggml's scheduler copies the source, and calls the copy
/// `BACKEND#NAME#NUMBER`: `CUDA0#blk.0.attn_q.weight.lora_a#0`. Behind the long name of a backend (`RPC0[host:port]`)
/// the end may be cut off; then the matrix is the only one whose name begins so.
pub(super) fn find<'a>(blocks: &'a Blocks, name: &[u8]) -> Option<&'a [Block]> {
    let of = |name: &[u8]| blocks.get(std::str::from_utf8(name).ok()?).map(Vec::as_slice);
    let Some(backend) = name.iter().position(|byte| *byte == b'#') else { return of(name) };
    let inner = &name[backend + 1..];
    let number = inner.iter().rposition(|byte| *byte == b'#');
    if let Some(end) = number {
        return of(&inner[..end]);
    }
    if name.len() < NAME_BYTES_MAX {
        return None;
    }
    let mut fitting = blocks.iter().filter(|(key, _)| key.as_bytes().starts_with(inner));
    match (fitting.next(), fitting.next()) {
        (Some((_, blocks)), None) => Some(blocks),
        _ => None,
    }
}

/// Whether a product with a source of this name and `n_rows` rows is to be masked. One with a `lora_a` that is not in
/// the stack is, and is a fault. A name that was cut off may be that of the other matrix of a pair, which has other
/// rows.
pub(super) fn is_masked(blocks: &Blocks, name: &[u8], n_rows: i64) -> bool {
    let is_copy = name.contains(&b'#');
    let whole = if is_copy { name.iter().rposition(|byte| *byte == b'#').unwrap_or(0) } else { name.len() };
    if name[..whole].ends_with(b".lora_a") {
        return true;
    }
    let rows = |blocks: &[Block]| blocks.iter().map(|block| block.rows.end as i64).max();
    is_copy && name.len() == NAME_BYTES_MAX && find(blocks, name).is_some_and(|blocks| rows(blocks) == Some(n_rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &[&str]) -> Blocks {
        let block = |i| vec![Block { part: i as u8, coefficient: None, rows: 0..8 + i }];
        names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), block(i))).collect()
    }

    fn part(blocks: &Blocks, name: &[u8]) -> Option<u8> {
        find(blocks, name).map(|blocks| blocks[0].part)
    }

    #[test]
    fn a_matrix_is_found_under_the_names_that_the_scheduler_gives_its_copies() {
        let names = ["blk.0.attn_q.weight.lora_a", "blk.10.attn_q.weight.lora_a", "output.weight.lora_a"];
        let blocks = stack(&names);
        let backends = [
            "CPU",
            "CUDA0",
            "ROCm1",
            "MUSA0",
            "Vulkan0",
            "MTL0",
            "Metal",
            "BLAS",
            "SYCL0",
            "CANN0",
            "OpenCL",
            "GPUOpenCL",
            "HTP0",
            "ZenDNN",
            "zDNN",
            "WebGPU",
            "ET0",
            "RPC0",
            "RPC0[127.0.0.1:50052]",
        ];
        for (i, name) in names.into_iter().enumerate() {
            assert_eq!(part(&blocks, name.as_bytes()), Some(i as u8));
            for (backend, number) in backends.into_iter().flat_map(|backend| [0, 3, 12].map(|n| (backend, n))) {
                let copy = format!("{backend}#{name}#{number}");
                assert_eq!(part(&blocks, copy.as_bytes()), Some(i as u8), "{copy}");
                assert!(is_masked(&blocks, copy.as_bytes(), 8 + i as i64), "{copy}");
            }
        }
    }

    #[test]
    fn other_tensors_and_their_copies_are_left_alone() {
        let blocks = stack(&["blk.0.attn_q.weight.lora_a"]);
        let others = ["blk.0.attn_q.weight", "CUDA0#blk.0.attn_q.weight#0", "CUDA0#blk.0.attn_q.weight.lora_b#0"];
        for name in others.into_iter().chain(["#", "a#b", "##", ""]) {
            assert!(!is_masked(&blocks, name.as_bytes(), 8), "{name}");
        }
        // One that is asked for and not in the stack is a fault of the batch.
        for name in ["blk.1.attn_q.weight.lora_a", "CUDA0#blk.1.attn_q.weight.lora_a#0"] {
            assert!(is_masked(&blocks, name.as_bytes(), 8) && find(&blocks, name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn a_name_that_ggml_has_cut_off_is_found_by_its_beginning_and_its_rows() {
        let names = ["blk.10.attn_output.weight.lora_a", "blk.11.attn_output.weight.lora_a"];
        let blocks = stack(&names);
        let cut = |copy: &str| copy.as_bytes()[..NAME_BYTES_MAX].to_vec();
        for (i, name) in names.into_iter().enumerate() {
            let copy = cut(&format!("RPC0[a-machine-of-the-lab.example:50052]#{name}#0"));
            assert_eq!(part(&blocks, &copy), Some(i as u8));
            assert!(is_masked(&blocks, &copy, 8 + i as i64), "the rows of A");
            assert!(!is_masked(&blocks, &copy, 4096), "the rows of B, whose name begins alike");
        }
        let ambiguous = cut(&format!("RPC0[{}.example:50052]#{}#0", "x".repeat(37), names[0]));
        assert!(ambiguous.ends_with(b"#blk.1") && find(&blocks, &ambiguous).is_none(), "two matrices begin so");
        assert!(find(&blocks, b"CUDA0#blk.10").is_none(), "a short name is whole");
    }
}
