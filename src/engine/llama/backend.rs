//! Starting llama.cpp, once a process.

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use llama_cpp_sys_2 as sys;

use crate::installed;

/// Starts the backends and sends llama.cpp's log to `tracing`. Later calls do nothing.
pub fn start() {
    backend();
}

/// What llama-cpp-2 wants as proof that llama.cpp runs; `None` where somebody else in this process has started it.
pub fn backend() -> Option<&'static LlamaBackend> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    let start = || {
        send_logs_to_tracing(LogOptions::default());
        if cfg!(feature = "dynamic-backends") {
            load_backends();
        }
        // It fails only where somebody in this process has started llama.cpp already: then it runs.
        LlamaBackend::init().ok()
    };
    BACKEND.get_or_init(start).as_ref()
}

/// Loads the backends that belong to the binary: in the folder that `GENARM_BACKENDS` names, in `backends` beside the
/// binary, in `lib/genarm/backends` of a release, or where cargo has built them; the first of these that is there.
fn load_backends() {
    let given = std::env::var_os("GENARM_BACKENDS").map(PathBuf::from);
    let built = option_env!("GENARM_BUILT_BACKENDS").map(PathBuf::from);
    let installed = installed::candidates("backends");
    let folder = given.into_iter().chain(installed).chain(built).find(|folder| folder.is_dir());
    match folder.and_then(|folder| CString::new(folder.as_os_str().as_encoded_bytes()).ok()) {
        // SAFETY: a C string that lives until the call returns.
        Some(folder) => unsafe { sys::ggml_backend_load_all_from_path(folder.as_ptr()) },
        None => tracing::error!("found no backends beside this binary; set GENARM_BACKENDS to their folder"),
    }
}

/// Which llama.cpp this is, and what it can use on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The version of llama.cpp.
    pub llama: String,
    /// The version and the commit of ggml.
    pub ggml: String,
    /// The backends with the features that they were built with and find here.
    pub features: String,
}

/// Asks llama.cpp.
pub fn build() -> Build {
    start();
    let text = |raw: *const std::ffi::c_char| {
        // SAFETY: a C string that llama.cpp keeps: a constant, or the buffer of `llama_print_system_info`, which is
        // copied at once.
        if raw.is_null() { String::new() } else { unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned() }
    };
    // SAFETY: no arguments.
    let (llama, ggml, commit) = unsafe { (sys::llama_version(), sys::ggml_version(), sys::ggml_commit()) };
    // SAFETY: no arguments; the backends are started.
    let features = unsafe { sys::llama_print_system_info() };
    Build { llama: text(llama), ggml: format!("{} ({})", text(ggml), text(commit)), features: text(features) }
}

/// The flag that ends a decode in progress when it is set: by a Ctrl-C handler.
///
/// While it is set, every decode of the process fails with
/// [`ExpertError::Interrupted`](crate::ExpertError::Interrupted).
pub fn interrupt_flag() -> Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    Arc::clone(FLAG.get_or_init(Arc::default))
}

/// Ends the process as it is: nothing is freed and no destructor runs, because a thread is still inside llama.cpp.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code.into()) }
}

/// Asked by ggml between the nodes of a graph: whether to stop.
pub(super) unsafe extern "C" fn abort_requested(flag: *mut std::ffi::c_void) -> bool {
    // SAFETY: the context was made with a pointer to the flag of `interrupt_flag`, which lives as long as the process.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}
