//! Which rows and columns of an adapter with objectives belong to which of them.

use std::ops::Range;

use super::gguf::Parm;

/// A block of an adapter.
pub(super) struct BlockOf {
    /// The number of its objective; `None` acts always.
    pub coefficient: Option<usize>,
    /// Its rows of A, which are its columns of B.
    pub columns: Range<usize>,
}

/// The blocks of an adapter, in their order. One of `rank` without objectives is one block.
pub(super) fn blocks_of(parm: Option<&Parm>, rank: usize) -> impl Iterator<Item = BlockOf> {
    let ranks = parm.map_or_else(|| vec![rank], |parm| parm.ranks.iter().map(|rank| *rank as usize).collect());
    let mut end = 0;
    ranks.into_iter().enumerate().map(move |(i, rank)| {
        let start = end;
        end += rank;
        BlockOf { coefficient: i.checked_sub(1), columns: start..end }
    })
}
