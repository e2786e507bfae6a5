//! How long drafts are, and what a recurrent model needs to take one back.

use crate::config::{Config, Speculate};
use crate::decode::controller::DRAFT_MAX;
use crate::engine::gguf::GgufFile;
use crate::engine::memory::MemoryParts;
use crate::sampling::params::Mirostat;

/// Tokens that a named drafter drafts, unless the user says otherwise: with the token before them, batches of 4 and of
/// 16. A long copy is seldom wrong, a model sooner.
pub(super) const LENGTH: usize = 3;
pub(super) const LENGTH_LOOKUP: usize = 15;
/// Bytes that the snapshots of a sequence may take.
const SNAPSHOT_BYTES: u64 = 128 << 20;

/// Tokens of a draft that a recurrent model should be able to take back under this configuration; 0 for other models,
/// and where nothing is drafted.
pub(super) fn n_snapshots(config: &Config, file: &GgufFile) -> u32 {
    let state = MemoryParts::of(file).state();
    let longest = if state == 0 { 0 } else { longest_draft(config) };
    u32::try_from((SNAPSHOT_BYTES / state.max(1)).min(longest as u64)).unwrap_or(0)
}

/// Tokens that the drafter of a configuration drafts at most.
pub(super) fn longest_draft(config: &Config) -> usize {
    let longest = match config.speculate {
        _ if config.sampling.mirostat != Mirostat::Off => return 0,
        Speculate::Off => return 0,
        Speculate::Auto => DRAFT_MAX,
        Speculate::Lookup => LENGTH_LOOKUP,
        Speculate::Base | Speculate::Backbone | Speculate::Draft(_) | Speculate::Mtp | Speculate::Arm(_) => LENGTH,
    };
    config.draft_max.map_or(longest, |n| n as usize)
}
