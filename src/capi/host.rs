//! The llama.cpp of the program that we are loaded into. It is another copy than ours, perhaps another version: only what it
//! exports is used, and nothing of it is needed.

use std::ffi::{CStr, c_char, c_int, c_void};

use super::status::{Failure, genarm_status};
use crate::sampling::vtable::{Init, own_init};
use crate::session::HostTokens;

/// The host's `struct llama_vocab`; never looked into.
#[repr(C)]
pub struct llama_vocab {
    _private: [u8; 0],
}

/// Where the host's functions are looked for.
pub(super) struct Host {
    init: Option<Init>,
}

type Free = unsafe extern "C" fn(*mut c_void);

impl Host {
    /// The host that has this `llama_sampler_init`; `None` looks among all that the process has loaded.
    pub(super) fn new(init: Option<Init>) -> Self {
        Self {
            init: init.or_else(|| {
                find(None, c"llama_sampler_init").map(|address| {
                    // SAFETY: llama.h declares llama_sampler_init so, in every version that has samplers.
                    unsafe { std::mem::transmute::<*mut c_void, Init>(address) }
                })
            }),
        }
    }

    /// What makes the `llama_sampler`: the host's function, so that the host may free it; else our own.
    pub(super) fn init(&self) -> Init {
        self.init.unwrap_or(own_init)
    }

    /// What frees a sampler that [`init`](Self::init) has made.
    pub(super) fn free(&self) -> Option<Free> {
        let Some(init) = self.init else { return Some(own_free) };
        // SAFETY: llama.h declares llama_sampler_free so.
        find(Some(init), c"llama_sampler_free").map(|f| unsafe { std::mem::transmute::<*mut c_void, Free>(f) })
    }

    /// Reads a vocabulary through the host's own functions; `None` where it does not export them.
    ///
    /// # Safety
    ///
    /// `vocab` is the host's, and alive.
    pub(super) unsafe fn tokens(&self, vocab: *const llama_vocab) -> Result<Option<HostTokens>, Failure> {
        type Count = unsafe extern "C" fn(*const llama_vocab) -> i32;
        type Text = unsafe extern "C" fn(*const llama_vocab, i32) -> *const c_char;
        type Attribute = unsafe extern "C" fn(*const llama_vocab, i32) -> c_int;
        const UNUSED: c_int = 2; // LLAMA_TOKEN_ATTR_UNUSED
        let find = |name| find(self.init, name);
        let (Some(n), Some(text), Some(attribute)) =
            (find(c"llama_vocab_n_tokens"), find(c"llama_vocab_get_text"), find(c"llama_vocab_get_attr"))
        else {
            return Ok(None);
        };
        // SAFETY: llama.h declares the three functions so.
        let (n, text, attribute) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Count>(n),
                std::mem::transmute::<*mut c_void, Text>(text),
                std::mem::transmute::<*mut c_void, Attribute>(attribute),
            )
        };
        // SAFETY: by the contract above; so in the rest of the function.
        let n = unsafe { n(vocab) };
        if n <= 0 {
            return Err(Failure::new(genarm_status::GENARM_VOCABULARY, "the host's model has no vocabulary"));
        }
        let mut tokens = HostTokens::default();
        for id in 0..n {
            // SAFETY: the id is below the count; llama.cpp answers with a text that lives as long as the vocabulary.
            let (text, attributes) = unsafe { (text(vocab, id), attribute(vocab, id)) };
            // SAFETY: as above.
            let bytes = if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text) }.to_bytes() };
            tokens.texts.push(bytes.to_vec());
            tokens.unused.push(attributes & UNUSED != 0);
        }
        for (id, name) in tokens.special.iter_mut().zip([c"llama_vocab_bos", c"llama_vocab_eos", c"llama_vocab_eot"]) {
            // SAFETY: llama.h declares them so; none is -1.
            *id =
                find(name).and_then(|f| unsafe { std::mem::transmute::<*mut c_void, Count>(f)(vocab) }.try_into().ok());
        }
        Ok(Some(tokens))
    }
}

unsafe extern "C" fn own_free(sampler: *mut c_void) {
    // SAFETY: made by our llama.cpp's `llama_sampler_init`, and freed once.
    unsafe { llama_cpp_sys_2::llama_sampler_free(sampler.cast()) }
}

/// A function that the process has loaded: in the library of `beside`, else in those that are open to all.
///
/// Python opens libraries for itself alone, so that the wide search does not see them.
#[cfg(unix)]
fn find(beside: Option<Init>, name: &CStr) -> Option<*mut c_void> {
    let wide = || {
        // SAFETY: a C string; the handle is the constant for the wide search.
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
    };
    let narrow = |init: Init| {
        // SAFETY: `info` is plain data for dladdr to fill; the library that it names is open already (RTLD_NOLOAD), and stays open
        // when the count that dlopen adds is taken back.
        unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(init as *const c_void, &raw mut info) == 0 || info.dli_fname.is_null() {
                return std::ptr::null_mut();
            }
            let library = libc::dlopen(info.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD);
            if library.is_null() {
                return std::ptr::null_mut();
            }
            let address = libc::dlsym(library, name.as_ptr());
            libc::dlclose(library);
            address
        }
    };
    let found = beside.map_or(std::ptr::null_mut(), narrow);
    let found = if found.is_null() { wide() } else { found };
    (!found.is_null()).then_some(found)
}

/// Elsewhere a host passes its `llama_sampler_init`, and its vocabulary is not read.
#[cfg(not(unix))]
fn find(_: Option<Init>, _: &CStr) -> Option<*mut c_void> {
    None
}
