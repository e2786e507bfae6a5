//! The llama.cpp of the program that we are loaded into. It is another copy than ours, perhaps another version: only
//! what it exports is used, and nothing of it is needed.

use std::ffi::{CStr, c_char, c_int, c_void};

use sha2::{Digest as _, Sha256};

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

    /// The vocabulary behind a pointer; `None` where the host does not export what reads it.
    ///
    /// # Safety
    ///
    /// `vocab` is the host's, and alive as long as the result is.
    pub(super) unsafe fn vocabulary(&self, vocab: *const llama_vocab) -> Result<Option<HostVocabulary>, Failure> {
        let find = |name| find(self.init, name);
        let (Some(n), Some(text), Some(attribute)) =
            (find(c"llama_vocab_n_tokens"), find(c"llama_vocab_get_text"), find(c"llama_vocab_get_attr"))
        else {
            return Ok(None);
        };
        // SAFETY: llama.h declares the functions so.
        let (n, text, attribute) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Count>(n),
                std::mem::transmute::<*mut c_void, TokenPiece>(text),
                std::mem::transmute::<*mut c_void, Attribute>(attribute),
            )
        };
        // SAFETY: by the contract above.
        let n_tokens = unsafe { n(vocab) };
        if n_tokens <= 0 {
            return Err(Failure::new(genarm_status::GENARM_VOCABULARY, "the host's model has no vocabulary"));
        }
        // SAFETY: llama.h declares them as it declares the number of tokens; none is -1.
        let id = |f: *mut c_void| unsafe { std::mem::transmute::<*mut c_void, Count>(f)(vocab) };
        let special = [c"llama_vocab_bos", c"llama_vocab_eos", c"llama_vocab_eot"];
        let special = special.map(|name| find(name).and_then(|f| id(f).try_into().ok()));
        Ok(Some(HostVocabulary { vocab, n_tokens, text, attribute, special }))
    }
}

type Count = unsafe extern "C" fn(*const llama_vocab) -> i32;
type TokenPiece = unsafe extern "C" fn(*const llama_vocab, i32) -> *const c_char;
type Attribute = unsafe extern "C" fn(*const llama_vocab, i32) -> c_int;

/// A vocabulary of the host, read through the host's own functions.
pub(super) struct HostVocabulary {
    vocab: *const llama_vocab,
    n_tokens: i32,
    text: TokenPiece,
    attribute: Attribute,
    special: [Option<u32>; 3],
}

/// What tells vocabularies apart.
pub(super) type Digest = [u8; 32];

impl HostVocabulary {
    /// Shows every token's text and attributes, in the order of the ids.
    fn each(&self, mut f: impl FnMut(&[u8], c_int)) {
        for id in 0..self.n_tokens {
            // SAFETY: the id is below the count; llama.cpp answers with a text that lives as long as the vocabulary.
            let (text, attributes) = unsafe { ((self.text)(self.vocab, id), (self.attribute)(self.vocab, id)) };
            // SAFETY: as above.
            f(if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text) }.to_bytes() }, attributes);
        }
    }

    /// The SHA-256 of texts, attributes and special tokens. A host that frees a model may load another one to its
    /// address, so only the contents say which vocabulary this is.
    ///
    /// # Cost
    ///
    /// A few milliseconds for 128 thousand tokens.
    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.n_tokens.to_le_bytes());
        for id in self.special {
            hash.update(id.map_or(-1, i64::from).to_le_bytes());
        }
        self.each(|text, attributes| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
            hash.update(attributes.to_le_bytes());
        });
        hash.finalize().into()
    }

    /// A copy of what is compared.
    pub(super) fn tokens(&self) -> HostTokens {
        const UNUSED: c_int = 2; // LLAMA_TOKEN_ATTR_UNUSED
        let mut tokens = HostTokens { special: self.special, ..HostTokens::default() };
        self.each(|text, attributes| {
            tokens.texts.push(text.to_vec());
            tokens.unused.push(attributes & UNUSED != 0);
        });
        tokens
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
        // SAFETY: `info` is plain data for dladdr to fill; the library that it names is open already (RTLD_NOLOAD), and
        // stays open when the count that dlopen adds is taken back.
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

#[cfg(windows)]
fn find(beside: Option<Init>, name: &CStr) -> Option<*mut c_void> {
    use windows_sys::Win32::Foundation::HMODULE;
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, GetModuleHandleExW,
        GetProcAddress,
    };
    use windows_sys::Win32::System::ProcessStatus::K32EnumProcessModules;
    use windows_sys::Win32::System::Threading::GetCurrentProcess;

    // SAFETY: a C string, and a module that is loaded: null finds nothing.
    let within = |module: HMODULE| unsafe { GetProcAddress(module, name.as_ptr().cast()) }.map(|f| f as *mut c_void);
    let of = |address: *const c_void| {
        let mut module: HMODULE = std::ptr::null_mut();
        let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
        // SAFETY: with FROM_ADDRESS the second argument is an address, which is only compared; `module` is filled.
        let found = unsafe { GetModuleHandleExW(flags, address.cast(), &raw mut module) };
        if found == 0 { std::ptr::null_mut() } else { module }
    };
    if let Some(address) = beside.and_then(|init| within(of(init as *const c_void))) {
        return Some(address);
    }
    // As `RTLD_DEFAULT` does on Unix: among all that is loaded. Our own library is left out, because it has functions
    // of these names.
    let mut modules: [HMODULE; 1024] = [std::ptr::null_mut(); 1024];
    let mut bytes = 0;
    // SAFETY: the size is that of the array, and `bytes` is filled.
    let listed = unsafe {
        K32EnumProcessModules(
            GetCurrentProcess(),
            modules.as_mut_ptr(),
            std::mem::size_of_val(&modules) as u32,
            &raw mut bytes,
        )
    };
    let n = if listed == 0 { 0 } else { bytes as usize / std::mem::size_of::<HMODULE>() };
    let own = of(find as *const c_void);
    modules.iter().take(n).filter(|module| **module != own).find_map(|module| within(*module))
}
