//! Whether the llama.cpp inside this library is its own.

use super::status::{Failure, genarm_status};

/// Refuses to work where llama.cpp is another library: the loader would then give us the host's, of whatever version,
/// and structs of one version would be read as those of another.
pub(super) fn check() -> Result<(), Failure> {
    let foreign = cfg!(feature = "dynamic-backends") || !has_own_llama_cpp();
    if foreign { Err(refusal()) } else { Ok(()) }
}

fn refusal() -> Failure {
    Failure::new(
        genarm_status::GENARM_HOST,
        "this libgenarm was built with llama.cpp as shared libraries (the feature dynamic-backends), so it would use \
         the host's llama.cpp in place of its own; build libgenarm without that feature",
    )
}

#[cfg(unix)]
fn has_own_llama_cpp() -> bool {
    same_object(refusal as *const std::ffi::c_void, llama_cpp_sys_2::llama_backend_init as *const std::ffi::c_void)
}

#[cfg(not(unix))]
fn has_own_llama_cpp() -> bool {
    true
}

/// Whether two functions are in one library or program. One that nothing is known of counts as there.
#[cfg(unix)]
fn same_object(a: *const std::ffi::c_void, b: *const std::ffi::c_void) -> bool {
    let base = |function| {
        // SAFETY: plain data for dladdr to fill; it only compares the address with those of what is loaded.
        unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(function, &raw mut info) == 0 { std::ptr::null_mut() } else { info.dli_fbase }
        }
    };
    let (a, b) = (base(a), base(b));
    a == b || a.is_null() || b.is_null()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_llama_cpp_in_another_library_is_told_from_our_own() {
        let ours = refusal as *const std::ffi::c_void;
        // SAFETY: a C string, looked for in all that is loaded.
        let of_libc = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"strerror".as_ptr()) };
        assert!(!of_libc.is_null() && !same_object(ours, of_libc));
        assert!(same_object(ours, check as *const std::ffi::c_void));
        let refused = refusal();
        assert_eq!(refused.status, genarm_status::GENARM_HOST);
        assert!(refused.text.contains("dynamic-backends") && !refused.text.contains('\n'), "{}", refused.text);
    }

    #[test]
    fn this_build_works_unless_llama_cpp_is_shared() {
        assert_eq!(check().is_err(), cfg!(feature = "dynamic-backends"));
    }
}
