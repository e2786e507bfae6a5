//! llama.cpp's sampler chain, behind the hook, in the order and with the defaults of llama.cpp's own tools.

use std::ffi::CString;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::grammar::GrammarError;
use super::params::{BiasKey, Mirostat, SamplerKind, SamplingParams};
use super::vtable::{CustomSampler, into_raw, own_init};
use crate::engine::llama::{TokenizeError, Vocab};
use crate::expert::Token;

/// Why there is no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A text of the parameters has no tokens.
    #[error("{field}: {source}")]
    Tokenize {
        /// Which parameter.
        field: &'static str,
        /// Why.
        source: TokenizeError,
    },
    /// A token id of the parameters is not in the vocabulary.
    #[error("logit_bias: token {token} is outside the vocabulary of {n_vocab} tokens")]
    Token {
        /// The id.
        token: Token,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// The grammar or the schema cannot be followed.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// A text that C cannot take.
    #[error("{field}: a text must not contain a NUL character")]
    Nul {
        /// Which parameter.
        field: &'static str,
    },
    /// llama.cpp made no sampler: memory is short.
    #[error("llama.cpp cannot create a sampler: out of memory")]
    Memory,
}

/// A `llama_sampler` that we own.
pub(super) struct Owned(NonNull<sys::llama_sampler>);

// SAFETY: samplers have no thread of their own; `&mut` keeps two threads from using one at once.
unsafe impl Send for Owned {}

impl Owned {
    /// Takes ownership of what an init function gave.
    ///
    /// # Safety
    ///
    /// `raw` is NULL or a sampler that no other code frees.
    pub(super) unsafe fn new(raw: *mut sys::llama_sampler) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// A sampler of our own, in C's hands; `None` where memory is short.
    pub(super) fn of<S: CustomSampler>(sampler: S) -> Option<Self> {
        // SAFETY: `own_init` is llama.cpp's `llama_sampler_init`.
        let raw = unsafe { into_raw(sampler, own_init) };
        NonNull::new(raw.cast()).map(Self)
    }

    pub(super) fn apply(&mut self, candidates: &mut sys::llama_token_data_array) {
        // SAFETY: a live sampler and a live array; so in the functions below.
        unsafe { sys::llama_sampler_apply(self.0.as_ptr(), candidates) }
    }

    pub(super) fn accept(&mut self, token: Token) {
        // SAFETY: see `apply`.
        unsafe { sys::llama_sampler_accept(self.0.as_ptr(), token) }
    }

    pub(super) fn reset(&mut self) {
        // SAFETY: see `apply`.
        unsafe { sys::llama_sampler_reset(self.0.as_ptr()) }
    }

    /// The names of a chain's samplers, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let chain = self.0.as_ptr();
        // SAFETY: see `apply`; this one is a chain, `i` is below its length, and a name is a static C string.
        let name =
            |i| unsafe { std::ffi::CStr::from_ptr(sys::llama_sampler_name(sys::llama_sampler_chain_get(chain, i))) };
        // SAFETY: see above.
        let n = unsafe { sys::llama_sampler_chain_n(chain) };
        (0..n).map(|i| name(i).to_string_lossy().into_owned()).collect()
    }

    fn chain() -> Result<Self, ChainError> {
        // SAFETY: no arguments but defaults.
        let raw = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        // SAFETY: the chain is new.
        unsafe { Self::new(raw) }.ok_or(ChainError::Memory)
    }

    /// Adds what an init function gave.
    ///
    /// # Safety
    ///
    /// As [`new`](Self::new).
    unsafe fn add(&mut self, raw: *mut sys::llama_sampler) -> Result<(), ChainError> {
        // SAFETY: by the contract above.
        let added = unsafe { Self::new(raw) }.ok_or(ChainError::Memory)?;
        self.add_owned(added);
        Ok(())
    }

    fn add_owned(&mut self, added: Self) {
        // SAFETY: the chain takes ownership of a sampler that no other code frees.
        unsafe { sys::llama_sampler_chain_add(self.0.as_ptr(), added.0.as_ptr()) };
        std::mem::forget(added);
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the only owner, and the last use.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) }
    }
}

/// Everything that acts on the candidates before one is drawn: `first`, logit bias, then the samplers in their order.
pub(super) fn truncation(
    params: &SamplingParams,
    vocab: &Vocab,
    n_ctx: usize,
    first: Option<Owned>,
) -> Result<Owned, ChainError> {
    let mut chain = Owned::chain()?;
    if let Some(first) = first {
        chain.add_owned(first);
    }
    let biases = biases(params, vocab)?;
    let n_vocab = vocab.n_tokens() as i32;
    if !biases.is_empty() {
        // SAFETY: pointer and length are those of `biases`, which llama.cpp copies.
        unsafe { chain.add(sys::llama_sampler_init_logit_bias(n_vocab, biases.len() as i32, biases.as_ptr())) }?;
    }
    if params.mirostat != Mirostat::Off {
        // SAFETY: plain numbers.
        unsafe { chain.add(sys::llama_sampler_init_temp(params.temp)) }?;
        return Ok(chain);
    }
    let min_keep = params.min_keep as usize;
    for kind in &params.samplers {
        let raw = match kind {
            SamplerKind::Dry => dry(params, vocab, n_ctx)?,
            SamplerKind::Penalties => {
                let last_n = look_back(params.penalty_last_n, n_ctx);
                let (repeat, freq, present) =
                    (params.repeat_penalty, params.frequency_penalty, params.presence_penalty);
                // SAFETY: plain numbers; so in all below.
                unsafe { sys::llama_sampler_init_penalties(n_vocab, last_n, repeat, freq, present) }
            }
            // SAFETY: see above.
            SamplerKind::TopNSigma => unsafe { sys::llama_sampler_init_top_n_sigma(params.top_n_sigma) },
            // SAFETY: see above.
            SamplerKind::TopK => unsafe { sys::llama_sampler_init_top_k(params.top_k) },
            // SAFETY: see above.
            SamplerKind::TypP => unsafe { sys::llama_sampler_init_typical(params.typ_p, min_keep) },
            // SAFETY: see above.
            SamplerKind::TopP => unsafe { sys::llama_sampler_init_top_p(params.top_p, min_keep) },
            // SAFETY: see above.
            SamplerKind::MinP => unsafe { sys::llama_sampler_init_min_p(params.min_p, min_keep) },
            SamplerKind::Xtc => {
                let (p, threshold) = (params.xtc_probability, params.xtc_threshold);
                // SAFETY: see above.
                unsafe { sys::llama_sampler_init_xtc(p, threshold, min_keep, params.seed) }
            }
            SamplerKind::Temperature => {
                let (temp, range, exponent) = (params.temp, params.dynatemp_range, params.dynatemp_exponent);
                // SAFETY: see above.
                unsafe { sys::llama_sampler_init_temp_ext(temp, range, exponent) }
            }
        };
        // SAFETY: the sampler is new.
        unsafe { chain.add(raw) }?;
    }
    Ok(chain)
}

/// What acts on the candidates of a draft: the truncation without what depends on the text so far or on chance.
pub(super) fn draft_truncation(params: &SamplingParams, vocab: &Vocab, n_ctx: usize) -> Result<Owned, ChainError> {
    let stateless = |kind: &SamplerKind| !matches!(kind, SamplerKind::Penalties | SamplerKind::Dry | SamplerKind::Xtc);
    let samplers = params.samplers.iter().copied().filter(stateless).collect();
    truncation(&SamplingParams { samplers, ..params.clone() }, vocab, n_ctx, None)
}

/// What draws a token from the candidates that are left.
pub(super) fn selector(params: &SamplingParams, vocab: &Vocab) -> Result<Owned, ChainError> {
    let (seed, tau, eta) = (params.seed, params.mirostat_tau, params.mirostat_eta);
    let raw = match params.mirostat {
        // SAFETY: plain numbers; so in all below.
        Mirostat::Off => unsafe { sys::llama_sampler_init_dist(seed) },
        // SAFETY: see above. 100 is the paper's m, as in llama.cpp's tools.
        Mirostat::V1 => unsafe { sys::llama_sampler_init_mirostat(vocab.n_tokens() as i32, seed, tau, eta, 100) },
        // SAFETY: see above.
        Mirostat::V2 => unsafe { sys::llama_sampler_init_mirostat_v2(seed, tau, eta) },
    };
    // SAFETY: the sampler is new.
    unsafe { Owned::new(raw) }.ok_or(ChainError::Memory)
}

fn biases(params: &SamplingParams, vocab: &Vocab) -> Result<Vec<sys::llama_logit_bias>, ChainError> {
    let mut biases = Vec::new();
    if params.ignore_eos {
        biases.extend(vocab.eog_tokens().map(|token| sys::llama_logit_bias { token, bias: f32::NEG_INFINITY }));
    }
    for (key, bias) in &params.logit_bias {
        let tokens = match key {
            BiasKey::Token(id) => vec![*id],
            BiasKey::Text(text) => vocab
                .tokenize(text, false, false)
                .map_err(|source| ChainError::Tokenize { field: "logit_bias", source })?,
        };
        let n_vocab = vocab.n_tokens();
        if let Some(&token) = tokens.iter().find(|t| usize::try_from(**t).map_or(true, |t| t >= n_vocab)) {
            return Err(ChainError::Token { token, n_vocab });
        }
        biases.extend(tokens.into_iter().map(|token| sys::llama_logit_bias { token, bias: *bias }));
    }
    Ok(biases)
}

fn dry(params: &SamplingParams, vocab: &Vocab, n_ctx: usize) -> Result<*mut sys::llama_sampler, ChainError> {
    // llama.cpp tokenises what follows the first character, and would end the process at a character that the vocabulary
    // cannot spell.
    for text in &params.dry_sequence_breakers {
        let tail: String = text.chars().skip(1).collect();
        vocab
            .tokenize(&tail, false, false)
            .map_err(|source| ChainError::Tokenize { field: "dry_sequence_breakers", source })?;
    }
    let nul = |_| ChainError::Nul { field: "dry_sequence_breakers" };
    let texts = params.dry_sequence_breakers.iter().map(|text| CString::new(text.as_str()).map_err(nul));
    let texts: Vec<_> = texts.collect::<Result<_, _>>()?;
    let mut breakers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
    let last_n = look_back(params.dry_penalty_last_n, n_ctx);
    // SAFETY: the vocabulary is alive; the array has as many C strings as said, and llama.cpp copies them.
    Ok(unsafe {
        sys::llama_sampler_init_dry(
            vocab.as_ptr(),
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            last_n,
            breakers.as_mut_ptr(),
            breakers.len(),
        )
    })
}

/// -1 looks back over the whole context.
fn look_back(n: i32, n_ctx: usize) -> i32 {
    if n < 0 { i32::try_from(n_ctx).unwrap_or(i32::MAX) } else { n }
}
