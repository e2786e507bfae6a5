//! The C ABI: `include/genarm.h` and `libgenarm.so`, for programs that run the base in their own llama.cpp.
//!
//! The header is generated from this folder (`cbindgen.toml`), committed, and compared by a test. Its conventions are
//! written on its top. What the functions do is [`plugin`](crate::plugin); here is only the way in and out of C:
//!
//! ```text
//! status     codes, the text of the last error, the guard that keeps panics out of C
//! handle     guidances by their handles: a stale one is refused, never followed
//! arguments  pointers to text, arrays and results
//! host       the llama.cpp of the program that we are loaded into
//! linkage    whether the llama.cpp inside is our own
//! guidance, sampler   the functions
//! ```
#![allow(unsafe_code, non_camel_case_types)]

mod arguments;
mod guidance;
mod handle;
mod host;
mod linkage;
mod sampler;
mod status;

pub use guidance::*;
pub use handle::genarm;
pub use sampler::*;
pub use status::{genarm_last_error, genarm_status};

use std::ffi::c_char;

/// The number of this interface: it changes when a program must be compiled again.
pub const GENARM_ABI_VERSION: u32 = 1;

/// The GENARM_ABI_VERSION that the library was built with. Compare it with the header's after `dlopen`.
#[unsafe(no_mangle)]
pub extern "C" fn genarm_abi_version() -> u32 {
    GENARM_ABI_VERSION
}

/// The version of genarm, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn genarm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
