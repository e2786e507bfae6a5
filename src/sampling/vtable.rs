//! A `llama_sampler` in Rust: a safe trait in, llama.cpp's struct of functions out.
//!
//! ```text
//! into_raw(S) ──llama_sampler_init──▶ llama_sampler { iface ─▶ TABLE (static), ctx ─▶ SamplerBox<S> (boxed) }
//!                                            │ clone: SamplerBox::fork, a new llama_sampler
//!                                            ▼ free:  SamplerBox is dropped; the host frees the llama_sampler itself
//! ```
//!
//! No panic crosses into C: every function is guarded, and one that panics does nothing.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::abi::{llama_sampler, llama_sampler_i, llama_token, llama_token_data, llama_token_data_array};
use crate::expert::Token;

/// What a sampler does, as llama.cpp asks for it.
///
/// `Sync`, because llama.cpp takes the sampler to be cloned as `const`: two threads may clone one at the same time.
pub trait CustomSampler: Send + Sync + Sized + 'static {
    /// The name in llama.cpp's listings.
    const NAME: &'static CStr;
    /// Is told the token that was chosen, or a token of the prompt.
    fn accept(&mut self, token: Token);
    /// Changes the candidates of a step. May be called more than once at one position.
    fn apply(&mut self, candidates: &mut Candidates<'_>);
    /// Forgets all accepted tokens.
    fn reset(&mut self);
    /// Another sampler with the same state.
    fn fork(&self) -> Self;
    /// Is told the address of the `llama_sampler` that it has become, so that it can be known by it.
    fn placed(&mut self, address: usize) {
        let _ = address;
    }
}

/// The candidates of a step (`llama_token_data_array`).
pub struct Candidates<'a>(&'a mut llama_token_data_array);

impl<'a> Candidates<'a> {
    #[cfg(test)]
    pub(crate) fn new(array: &'a mut llama_token_data_array) -> Self {
        Self(array)
    }

    /// The candidates, in no order: find a token by its `id`, never by its place.
    pub fn as_mut_slice(&mut self) -> &mut [llama_token_data] {
        if self.0.data.is_null() {
            return &mut [];
        }
        // SAFETY: the host gives an array of `size` candidates that nobody else uses during the call.
        unsafe { std::slice::from_raw_parts_mut(self.0.data, self.0.size) }
    }

    /// Call this after changing logits: the array is no longer sorted.
    pub fn clear_sorted(&mut self) {
        self.0.sorted = false;
    }
}

/// llama.cpp's `llama_sampler_init`: allocates the struct with the allocator that will free it.
pub type Init = unsafe extern "C" fn(*mut llama_sampler_i, *mut c_void) -> *mut llama_sampler;

/// The `llama_sampler_init` of the llama.cpp inside genarm.
///
/// # Safety
///
/// As llama.cpp's: `iface` outlives the sampler, and its functions expect `ctx`.
pub unsafe extern "C" fn own_init(iface: *mut llama_sampler_i, ctx: *mut c_void) -> *mut llama_sampler {
    // SAFETY: passes the caller's arguments on; the structs have the same layout, which `abi.rs` proves.
    unsafe { llama_cpp_sys_2::llama_sampler_init(iface.cast(), ctx).cast() }
}

/// Hands a sampler over to C, which frees it with `llama_sampler_free`. NULL when `init` gives NULL. What `init`
/// returns otherwise is a `llama_sampler` with these two members that stays where it is until it is freed.
///
/// # Safety
///
/// `init` is the `llama_sampler_init` of a llama.cpp, and may be called while the sampler or a clone of it lives.
pub unsafe fn into_raw<S: CustomSampler>(sampler: S, init: Init) -> *mut llama_sampler {
    let ctx = Box::into_raw(Box::new(SamplerBox { sampler, init }));
    // SAFETY: the table is static and never written to; `ctx` is freed by `free`, once.
    let raw = unsafe { init((&raw const Table::<S>::TABLE.iface).cast_mut(), ctx.cast()) };
    if raw.is_null() {
        // SAFETY: C has not kept the pointer.
        drop(unsafe { Box::from_raw(ctx) });
    } else {
        // SAFETY: C has not seen the sampler yet.
        unsafe { with::<S, _>(raw, |slot| slot.sampler.placed(raw as usize)) };
    }
    raw
}

struct SamplerBox<S> {
    sampler: S,
    init: Init,
}

/// Newer llama.cpp versions append functions to `llama_sampler_i`: they must read NULL there.
#[repr(C)]
struct Padded {
    iface: llama_sampler_i,
    spare: [usize; 16],
}

struct Table<S>(std::marker::PhantomData<S>);

impl<S: CustomSampler> Table<S> {
    const TABLE: &'static Padded = &Padded {
        iface: llama_sampler_i {
            name: Some(name::<S>),
            accept: Some(accept::<S>),
            apply: Some(apply::<S>),
            reset: Some(reset::<S>),
            clone: Some(clone::<S>),
            free: Some(free::<S>),
            backend_init: None,
            backend_accept: None,
            backend_apply: None,
            backend_set_input: None,
            backend_reset: None,
            // Newer hosts copy states without it too, but by swapping contexts: the sampler would not know its address
            // any more.
            copy_state: Some(copy_state::<S>),
        },
        spare: [0; 16],
    };
}

/// Runs `f` on the sampler behind `raw`; `None` where it panicked.
///
/// # Safety
///
/// `raw` comes from [`into_raw`] of the same `S`, and nobody else uses it during the call.
unsafe fn with<S, T>(raw: *mut llama_sampler, f: impl FnOnce(&mut SamplerBox<S>) -> T) -> Option<T> {
    // SAFETY: by the contract above.
    let slot = unsafe { &mut *(*raw).ctx.cast::<SamplerBox<S>>() };
    guard(|| f(slot))
}

/// The same for a sampler that others may read meanwhile.
///
/// # Safety
///
/// `raw` comes from [`into_raw`] of the same `S`, and no other code changes it during the call.
unsafe fn with_ref<S, T>(raw: *const llama_sampler, f: impl FnOnce(&SamplerBox<S>) -> T) -> Option<T> {
    // SAFETY: by the contract above.
    let slot = unsafe { &*(*raw).ctx.cast::<SamplerBox<S>>() };
    guard(|| f(slot))
}

fn guard<T>(f: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(f));
    result.inspect_err(|_| tracing::error!("a sampler panicked; this call did nothing")).ok()
}

unsafe extern "C" fn name<S: CustomSampler>(_: *const llama_sampler) -> *const c_char {
    S::NAME.as_ptr()
}

unsafe extern "C" fn accept<S: CustomSampler>(raw: *mut llama_sampler, token: llama_token) {
    // SAFETY: llama.cpp calls the functions of a sampler with that sampler, from one thread at a time; so in all below.
    unsafe { with::<S, _>(raw, |slot| slot.sampler.accept(token)) };
}

unsafe extern "C" fn apply<S: CustomSampler>(raw: *mut llama_sampler, candidates: *mut llama_token_data_array) {
    // SAFETY: the host's array is its own during the call.
    let Some(candidates) = (unsafe { candidates.as_mut() }) else { return };
    // SAFETY: see `accept`.
    unsafe { with::<S, _>(raw, |slot| slot.sampler.apply(&mut Candidates(candidates))) };
}

unsafe extern "C" fn reset<S: CustomSampler>(raw: *mut llama_sampler) {
    // SAFETY: see `accept`.
    unsafe { with::<S, _>(raw, |slot| slot.sampler.reset()) };
}

unsafe extern "C" fn clone<S: CustomSampler>(raw: *const llama_sampler) -> *mut llama_sampler {
    // SAFETY: see `accept`; a const sampler is only read, and `init` is what `into_raw` was given.
    let fork = unsafe { with_ref::<S, _>(raw, |slot| into_raw(slot.sampler.fork(), slot.init)) };
    fork.unwrap_or(std::ptr::null_mut())
}

unsafe extern "C" fn copy_state<S: CustomSampler>(source: *const llama_sampler, destination: *mut llama_sampler) {
    // SAFETY: both are alive; llama.cpp promises that their tables are one, and a host that is mistaken changes
    // nothing.
    if std::ptr::eq(source, destination) || unsafe { (*source).iface != (*destination).iface } {
        return;
    }
    // SAFETY: see `clone`.
    let Some(mut fork) = (unsafe { with_ref::<S, _>(source, |slot| slot.sampler.fork()) }) else { return };
    // SAFETY: as above.
    unsafe {
        with::<S, _>(destination, |slot| {
            fork.placed(destination as usize);
            slot.sampler = fork;
        })
    };
}

unsafe extern "C" fn free<S: CustomSampler>(raw: *mut llama_sampler) {
    // SAFETY: llama.cpp frees a sampler once, and its context was boxed by `into_raw`.
    let slot = unsafe { Box::from_raw((*raw).ctx.cast::<SamplerBox<S>>()) };
    if catch_unwind(AssertUnwindSafe(|| drop(slot))).is_err() {
        tracing::error!("a sampler panicked while it was freed");
    }
}
