//! What models will need in memory, told from their headers before anything is loaded.
//!
//! [`MemoryParts`] says what a file needs, layer by layer; [`Placement`] puts the layers of several experts on devices,
//! chooses those that are left to it, and says whether all fits; where it does not, `changes` finds the cheapest
//! settings that would.

mod changes;
mod parts;
mod plan;
#[cfg(all(test, feature = "eval"))] // they make models
mod tests;
mod windows;

pub use changes::{Change, changes};
pub use parts::MemoryParts;
pub use plan::{DeviceMemory, ExpertPlan, ExpertRequest, Layers, Placement};

use serde::Serialize;

use super::gguf::GgufFile;
use super::llama::ContextParams;

/// Bytes that a model and one context on it take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryNeed {
    /// The weights. Mapped from the file, they are the system's page cache; experts on one file share them.
    pub weights: u64,
    /// K and V caches at the context's size.
    pub kv: u64,
    /// Buffers for intermediate results, an estimate.
    pub compute: u64,
}

impl MemoryNeed {
    /// The need of `file` in a context with `params`, all of it in one place.
    pub fn of(file: &GgufFile, params: &ContextParams) -> Self {
        let parts = MemoryParts::of(file);
        Self {
            weights: parts.weights(),
            kv: parts.kv(params),
            compute: parts.compute(params).saturating_add(parts::CONTEXT),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.compute)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            weights: self.weights.saturating_add(other.weights),
            kv: self.kv.saturating_add(other.kv),
            compute: self.compute.saturating_add(other.compute),
        }
    }
}

/// Environment variable that lowers [`available_memory`]: a number of bytes.
pub const MEMORY_LIMIT: &str = "GENARM_MEMORY_LIMIT";

/// Bytes of memory that the machine, or the control group that this process is in, has left; at most [`MEMORY_LIMIT`].
/// Where the system does not say, as Linux without `/proc`, there is no bound.
pub fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    // sysinfo panics where it is asked for the control group without knowing the memory.
    let free = if system.total_memory() == 0 {
        u64::MAX
    } else {
        let free = system.available_memory();
        system.cgroup_limits().map_or(free, |limits| free.min(free_of_group(&limits)))
    };
    let limit = std::env::var(MEMORY_LIMIT).ok().and_then(|bytes| bytes.parse().ok());
    limit.map_or(free, |limit: u64| free.min(limit))
}

/// What a control group has left. Pages of files that were read lie in its memory too until others need the room: models
/// above all, which were read a moment ago. So they count as free, as they do for the machine.
fn free_of_group(limits: &sysinfo::CGroupLimits) -> u64 {
    limits.total_memory.saturating_sub(limits.rss)
}
