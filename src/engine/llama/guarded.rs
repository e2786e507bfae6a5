//! Calls of llama.cpp for heads that draft, with C++ exceptions caught: `vendor/guarded` says what each does.

use llama_cpp_sys_2 as sys;

use crate::expert::Token;

unsafe extern "C" {
    pub(super) fn genarm_guarded_keep_states(ctx: *mut sys::llama_context, keep: bool, masked: bool);
    pub(super) fn genarm_guarded_states(ctx: *mut sys::llama_context) -> *const f32;
    pub(super) fn genarm_guarded_add(
        batch: *mut sys::llama_batch_ext,
        token: Token,
        pos: i32,
        state: *const f32,
        n_embd: usize,
        output: bool,
    ) -> bool;
    pub(super) fn genarm_guarded_decode(ctx: *mut sys::llama_context, batch: *mut sys::llama_batch_ext) -> i32;
}
