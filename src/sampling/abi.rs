//! The C structs that genarm's sampler shares with a llama.cpp host.
//!
//! Bound from `vendor/llama-sampler-abi`, not from the llama.cpp built into genarm: a host may be another llama.cpp
//! than ours, and only these structs are common to both. The assertions below prove, at compile time, that both
//! declarations have the same layout; the sampler may therefore hand its own structs to the llama.cpp inside, and to
//! one outside.

mod bound {
    #![allow(missing_docs, non_camel_case_types, unreachable_pub, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/llama_sampler_abi.rs"));
}

pub use bound::{llama_sampler, llama_sampler_i, llama_token, llama_token_data, llama_token_data_array};

use std::mem::{align_of, offset_of, size_of};

/// Asserts that a struct has the same size, alignment and member offsets here and in llama-cpp-sys-2.
macro_rules! assert_same_layout {
    ($name:ident { $($member:ident),+ $(,)? }) => {
        const _: () = {
            type Ours = bound::$name;
            type Theirs = llama_cpp_sys_2::$name;
            assert!(size_of::<Ours>() == size_of::<Theirs>(), concat!("size of ", stringify!($name)));
            assert!(align_of::<Ours>() == align_of::<Theirs>(), concat!("alignment of ", stringify!($name)));
            $(assert!(
                offset_of!(Ours, $member) == offset_of!(Theirs, $member),
                concat!("offset of ", stringify!($name), ".", stringify!($member))
            );)+
        };
    };
}

assert_same_layout!(llama_token_data { id, logit, p });
assert_same_layout!(llama_token_data_array { data, size, selected, sorted });
assert_same_layout!(llama_sampler { iface, ctx });
assert_same_layout!(llama_sampler_i {
    name,
    accept,
    apply,
    reset,
    clone,
    free,
    backend_init,
    backend_accept,
    backend_apply,
    backend_set_input,
    backend_reset,
    copy_state,
});
const _: () = assert!(size_of::<llama_token>() == size_of::<llama_cpp_sys_2::llama_token>(), "size of llama_token");
