//! llama.cpp's sampler chain, behind the hook, in the order and with the defaults of llama.cpp's own tools.

use llama_cpp_sys_2 as sys;

use super::dry::{Dry, look_back};
use super::error::ChainError;
use super::owned::Owned;
use super::params::{BiasKey, Mirostat, SamplerKind, SamplingParams};
use crate::engine::llama::Vocab;

/// Everything that acts on the candidates before one is drawn: `first`, logit bias, then the samplers in their order.
/// DRY is a copy of `dry`, where there is one, otherwise made here.
pub(super) fn truncation(
    params: &SamplingParams,
    vocab: &Vocab,
    n_ctx: usize,
    first: Option<Owned>,
    dry: Option<&Dry>,
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
            SamplerKind::Dry => {
                let made = || Dry::new(params, vocab, n_ctx).map(Dry::into_owned);
                chain.add_owned(dry.map_or_else(made, Dry::copy)?);
                continue;
            }
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
    truncation(&SamplingParams { samplers, ..params.clone() }, vocab, n_ctx, None, None)
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
