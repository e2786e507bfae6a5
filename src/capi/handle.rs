//! Guidances by their handles.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::host::Digest;
use super::status::{Failure, genarm_status};
use crate::plugin::{Plugin, Watch};

/// An open guidance: a configuration with its ARMs loaded. Opened by genarm_open_*, closed by genarm_close.
pub struct genarm {
    _private: [u8; 0],
}

/// What is behind a handle.
#[derive(Clone)]
pub(super) struct Entry {
    pub plugin: Arc<Plugin>,
    /// The ARMs' names, as long as the handle lives.
    pub names: Arc<[CString]>,
    pub watch: Option<Arc<Watch>>,
    /// The host's vocabularies that have been compared, and what came of it.
    pub checked: Checked,
}

/// Verdicts, by what the vocabularies hold.
pub(super) type Checked = Arc<Mutex<HashMap<Digest, Result<(), Failure>>>>;

/// Handles are numbers dressed as pointers. They are never followed and never given twice, so one that is closed twice,
/// or was never opened, is found out.
static HANDLES: LazyLock<Mutex<HashMap<usize, Entry>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicUsize = AtomicUsize::new(0x1000);

pub(super) fn open(plugin: Arc<Plugin>) -> *mut genarm {
    let name = |name: &String| CString::new(name.as_str()).unwrap_or_default();
    let names = plugin.weights().arm_names().iter().map(name).collect();
    let handle = NEXT.fetch_add(0x10, Ordering::Relaxed);
    lock().insert(handle, Entry { plugin, names, watch: None, checked: Checked::default() });
    std::ptr::without_provenance_mut(handle)
}

pub(super) fn get(handle: *const genarm) -> Result<Entry, Failure> {
    with(handle, |entry| entry.clone())
}

/// Lets `f` change what is behind a handle.
pub(super) fn with<T>(handle: *const genarm, f: impl FnOnce(&mut Entry) -> T) -> Result<T, Failure> {
    if handle.is_null() {
        return Err(null());
    }
    lock().get_mut(&handle.addr()).map(f).ok_or_else(closed)
}

pub(super) fn close(handle: *mut genarm) -> Result<(), Failure> {
    if handle.is_null() {
        return Err(null());
    }
    let entry = lock().remove(&handle.addr()).ok_or_else(closed)?;
    // Models may be freed here, and a watch ends: not under the lock.
    drop(entry);
    Ok(())
}

fn null() -> Failure {
    Failure::new(genarm_status::GENARM_NULL, "the genarm handle is NULL")
}

fn closed() -> Failure {
    Failure::new(genarm_status::GENARM_HANDLE, "this genarm handle is not open: it was closed, or never opened")
}

fn lock() -> MutexGuard<'static, HashMap<usize, Entry>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}
