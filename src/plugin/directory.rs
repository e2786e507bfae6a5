//! Which samplers there are, by the address of their `llama_sampler`.
//!
//! Other threads steer a sampler by its address while the host uses and frees it. Nothing is read through the address:
//! it is looked up here, and one that has been freed is not found.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::{HostText, Plugin};

type Entries = HashMap<usize, (Arc<Plugin>, Arc<HostText>)>;

static SAMPLERS: LazyLock<Mutex<Entries>> = LazyLock::new(Mutex::default);

/// The sampler at an address, if there is one of ours.
pub fn find(address: usize) -> Option<(Arc<Plugin>, Arc<HostText>)> {
    lock().get(&address).cloned()
}

pub(super) fn enter(address: usize, plugin: &Arc<Plugin>, text: &Arc<HostText>) {
    lock().insert(address, (Arc::clone(plugin), Arc::clone(text)));
}

/// Removes a sampler, unless another has come to its address.
pub(super) fn leave(address: usize, text: &Arc<HostText>) {
    let mut samplers = lock();
    let ours = samplers.get(&address).is_some_and(|(_, there)| Arc::ptr_eq(there, text));
    let entry = if ours { samplers.remove(&address) } else { None };
    drop(samplers);
    // The last handle of a plugin frees its models: not under the lock.
    drop(entry);
}

fn lock() -> MutexGuard<'static, Entries> {
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner)
}
