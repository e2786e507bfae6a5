//! Samplers for a host's chains, and steering each of them.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, PoisonError};

use super::arguments::{array, array_mut, check_apart, copy, result, text};
use super::handle::{self, Entry, genarm};
use super::host::{Host, llama_vocab};
use super::status::{Failure, genarm_status, guard};
use crate::expert::Token;
use crate::plugin::{HostSampler, HostText, Plugin, directory};
use crate::sampling::abi::{llama_sampler, llama_sampler_i};
use crate::sampling::vtable::into_raw;

/// Makes a sampler, to be added first to a chain: `llama_sampler_chain_add(chain, sampler)` before all others. The
/// chain then owns it; one that is in no chain is freed with the host's llama_sampler_free, or with
/// genarm_sampler_free.
///
/// `vocab` is the host's `llama_vocab` (or NULL): its tokens are compared with the ARMs', and a host with others is
/// refused. Without it, only their number is compared, at each step.
///
/// `init` is the host's llama_sampler_init (or NULL: it is looked for among the libraries that are open to all; a
/// program that links llama.cpp statically, and Python, pass it). The sampler is made by it, so that the host may free
/// it.
///
/// # Safety
///
/// `vocab` is NULL or a vocabulary of the host that is alive; `init` is NULL or llama.h's; `out` is NULL or may be
/// written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_new(
    guidance: *mut genarm,
    vocab: *const llama_vocab,
    init: Option<unsafe extern "C" fn(iface: *mut llama_sampler_i, ctx: *mut c_void) -> *mut llama_sampler>,
    out: *mut *mut llama_sampler,
) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { result(out, "out") }?;
        let entry = handle::get(guidance)?;
        let host = Host::new(init);
        // SAFETY: as above.
        unsafe { check(&entry, &host, vocab) }?;
        // SAFETY: by the contract above, or found by its name in a llama.cpp that the process has loaded.
        let sampler = unsafe { into_raw(HostSampler::new(&entry.plugin), host.init()) };
        if sampler.is_null() {
            return Err(Failure::new(genarm_status::GENARM_HOST, "the host's llama_sampler_init gave NULL"));
        }
        *out = sampler;
        Ok(())
    })
}

/// Whether a model of the host can be guided: GENARM_OK where its vocabulary is the ARMs', GENARM_VOCABULARY with the
/// first differences where it is not. A host with several models, one of which drafts, asks which of them is the base.
///
/// # Safety
///
/// `vocab` is NULL or a vocabulary of the host that is alive; `init` is NULL or llama.h's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_check_vocabulary(
    guidance: *const genarm,
    vocab: *const llama_vocab,
    init: Option<unsafe extern "C" fn(iface: *mut llama_sampler_i, ctx: *mut c_void) -> *mut llama_sampler>,
) -> genarm_status {
    guard(|| {
        let entry = handle::get(guidance)?;
        if vocab.is_null() {
            return Err(Failure::new(genarm_status::GENARM_NULL, "vocab is NULL"));
        }
        // SAFETY: by the contract above.
        unsafe { check(&entry, &Host::new(init), vocab) }
    })
}

/// Frees a sampler that is in no chain. `init` is what genarm_sampler_new was given.
///
/// # Safety
///
/// No chain holds the sampler, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_free(
    sampler: *mut llama_sampler,
    init: Option<unsafe extern "C" fn(iface: *mut llama_sampler_i, ctx: *mut c_void) -> *mut llama_sampler>,
) -> genarm_status {
    guard(|| {
        find(sampler)?;
        let free = Host::new(init).free().ok_or_else(|| {
            Failure::new(genarm_status::GENARM_HOST, "the host does not export llama_sampler_free: call it in the host")
        })?;
        // SAFETY: the directory knows the sampler, so it is alive; by the contract above nothing else frees it.
        unsafe { free(sampler.cast()) };
        Ok(())
    })
}

/// The weights of one sampler, in the order of the ARMs. `n` is the number of ARMs.
///
/// # Safety
///
/// `out` is NULL or has room for `n` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_get_weights(
    sampler: *const llama_sampler,
    out: *mut f32,
    n: usize,
) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { array_mut(out, n, "out") }?;
        copy(&find(sampler)?.1.weights().of_arms(), out)
    })
}

/// Sets the weight of the ARM `name` for this sampler and its clones, from the next token on.
/// `ARM.OBJECTIVE` names a preference of an ARM with several objectives.
///
/// # Safety
///
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_set_weight(
    sampler: *mut llama_sampler,
    name: *const c_char,
    weight: f32,
) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let name = unsafe { text(name, "name") }?;
        Ok(find(sampler)?.1.weights().set(name, weight)?)
    })
}

/// Sets all weights of this sampler and its clones at once. `n` is the number of ARMs.
///
/// # Safety
///
/// `weights` is NULL or has `n` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_set_weights(
    sampler: *mut llama_sampler,
    weights: *const f32,
    n: usize,
) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let weights = unsafe { array(weights, n, "weights") }?;
        Ok(find(sampler)?.1.weights().set_all(weights)?)
    })
}

/// Sets the weights of the configuration's profile `name` for this sampler and its clones.
///
/// # Safety
///
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_set_profile(sampler: *mut llama_sampler, name: *const c_char) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let name = unsafe { text(name, "name") }?;
        let (plugin, text) = find(sampler)?;
        Ok(text.weights().set_all(&plugin.profile(name)?)?)
    })
}

/// The log-probability that each ARM gave to the last accepted token: natural, at temperature 1, in the order of the
/// ARMs. It is the token's reward, but for the factor of the ARM's training. `n` is the number of ARMs; `token` (or
/// NULL) gets the token.
///
/// Costs a pass over the vocabulary an ARM when asked before the next step; after it the ARMs read a token again.
///
/// # Safety
///
/// `out` is NULL or has room for `n` numbers; `token` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_last_logprobs(
    sampler: *const llama_sampler,
    out: *mut f32,
    n: usize,
    token: *mut i32,
) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { array_mut(out, n, "out") }?;
        let (plugin, text) = find(sampler)?;
        let (last, logprobs) = text.last_logprobs(&plugin)?;
        copy(&logprobs, out)?;
        // SAFETY: as above.
        if let Ok(token) = unsafe { result(token, "token") } {
            *token = last;
        }
        Ok(())
    })
}

/// Adds the ARMs' weighted logits after `tokens` to a row of logits, with this sampler's weights and sequences: for
/// hosts that hand out logits instead of candidates. What the sampler has been told by its chain does not matter here,
/// and does not change.
///
/// `logits` are the base's after `tokens`, one a token of its vocabulary. An empty history changes nothing.
///
/// # Safety
///
/// `tokens` is NULL or has `n_tokens` tokens; `logits` is NULL or has `n_vocab` numbers that nothing else uses during
/// the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_sampler_add_logits(
    sampler: *mut llama_sampler,
    tokens: *const i32,
    n_tokens: usize,
    logits: *mut f32,
    n_vocab: usize,
) -> genarm_status {
    guard(|| {
        check_apart((tokens, n_tokens), (logits, n_vocab), "tokens and logits")?;
        // SAFETY: by the contract above.
        let (tokens, logits): (&[Token], _) =
            unsafe { (array(tokens, n_tokens, "tokens")?, array_mut(logits, n_vocab, "logits")?) };
        let (plugin, text) = find(sampler)?;
        Ok(text.add(&plugin, tokens, logits)?)
    })
}

fn find(sampler: *const llama_sampler) -> Result<(Arc<Plugin>, Arc<HostText>), Failure> {
    if sampler.is_null() {
        return Err(Failure::new(genarm_status::GENARM_NULL, "sampler is NULL"));
    }
    let dead = || Failure::new(genarm_status::GENARM_HANDLE, "this is no living sampler of genarm: was it freed?");
    directory::find(sampler.addr()).ok_or_else(dead)
}

/// Compares the host's vocabulary with the ARMs', once a vocabulary: a server makes a chain for every request.
///
/// # Safety
///
/// `vocab` is NULL or a vocabulary of the host that is alive.
unsafe fn check(entry: &Entry, host: &Host, vocab: *const llama_vocab) -> Result<(), Failure> {
    if vocab.is_null() {
        return Ok(());
    }
    // SAFETY: by the contract above.
    let Some(vocabulary) = unsafe { host.vocabulary(vocab) }? else {
        tracing::info!("the host does not export its vocabulary functions; only its size was compared");
        return Ok(());
    };
    let digest = vocabulary.digest();
    let mut checked = entry.checked.lock().unwrap_or_else(PoisonError::into_inner);
    let verdict = || entry.plugin.check_host(&vocabulary.tokens()).map_err(Failure::from);
    checked.entry(digest).or_insert_with(verdict).clone()
}
