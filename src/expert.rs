//! The one primitive: bring a sequence to a token history, and return the logits of its last k positions.
//!
//! A plain step, a second chat turn, a rejected draft and the sampler hook are all this one call with
//! a different history. An implementation compares the wanted history with what its cache holds,
//! keeps the longest common prefix, and decodes only the rest.

use std::any::Any;
use std::sync::Arc;

use thiserror::Error;

/// A token id, as llama.cpp's `llama_token`: an index into the vocabulary, `0..n_vocab`.
pub type Token = i32;

/// A language model seen as a function from a token history to next-token logits.
///
/// The base model is an expert, and so is every autoregressive reward model (ARM). Decoding and
/// speculation know only this trait, so they are tested on [`TableExpert`](crate::TableExpert)
/// in milliseconds, without a GGUF.
pub trait Expert {
    /// Number of tokens in the vocabulary: the length of one row of logits.
    fn n_vocab(&self) -> usize;

    /// The longest history, in tokens, that [`advance`](Self::advance) accepts.
    fn n_ctx(&self) -> usize;

    /// The most rows that [`advance`](Self::advance) gives at once: a batch of llama.cpp, for one.
    fn max_rows(&self) -> usize {
        usize::MAX
    }

    /// Brings the sequence to `history` and returns the logits that follow each of its last `k` tokens.
    ///
    /// The result has `k` rows of [`n_vocab`](Self::n_vocab) raw logits, oldest first; row `k - 1`
    /// predicts the token after the whole history. `1 <= k <= history.len()`.
    ///
    /// # Errors
    ///
    /// [`ExpertError::ContextFull`] when `history` is longer than `n_ctx`. After any error the cache holds
    /// some prefix of `history` (perhaps none), and the next call works.
    ///
    /// # Cost
    ///
    /// One batch of the tokens after the longest common prefix with the previous history, and nothing
    /// at all when the same rows are asked for again.
    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError>;

    /// Announces that [`advance`](Self::advance) follows with the same arguments. Decodes nothing.
    ///
    /// Experts that share a batch decode together when the first of them is asked for its rows. A request that cannot
    /// be served is dropped here; `advance` answers it with the error.
    fn prepare(&mut self, history: &[Token], k: usize);

    /// Starts to decode what was announced, if that goes on beside the calling thread, as on a GPU. Returns whether it
    /// does: then there is time to read something else meanwhile.
    fn start(&mut self) -> bool;

    /// Tokens at the beginning of `history` that are in memory already, so that [`advance`](Self::advance) need not
    /// decode them.
    fn n_cached(&self, history: &[Token]) -> usize;

    /// Decodes what was announced with [`prepare`](Self::prepare), and hands over nothing yet.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    fn read(&mut self) -> Result<(), ExpertError>;

    /// Writes the logits after `history` into `row`, as the model's own head for drafting guesses them from what the model
    /// has read already. Returns whether there is such a head.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    fn draft_row(&mut self, _history: &[Token], _row: &mut [f32]) -> Result<bool, ExpertError> {
        Ok(false)
    }

    /// Says how many tokens at the beginning of the histories to come are a prompt: an adapter that acts only on
    /// responses is off there. Returns whether logits of before may be others now.
    fn set_prompt_len(&mut self, _n_prompt: usize) -> bool {
        false
    }

    /// Changes the coefficients of the blocks of its adapter, where that has several objectives: from the next token
    /// that it decodes on. Returns whether logits of before may be others now.
    fn set_coefficients(&mut self, _coefficients: &[f32]) -> bool {
        false
    }

    /// Drops all that the sequence holds, so that what follows does not depend, by a rounding, on what was read before.
    fn forget(&mut self);

    /// Tokens decoded since the expert was made. Counts the work that prefix reuse did not save.
    fn n_decoded(&self) -> u64;

    /// A number that changes where times measured so far no longer hold: the expert then computes on more threads, or
    /// on fewer.
    fn pace(&self) -> u64 {
        0
    }

    /// What its memory depends on. An expert without files has nothing to name.
    ///
    /// # Errors
    ///
    /// [`StateError::Changed`], [`StateError::Read`].
    fn origin(&self) -> Result<Origin, StateError> {
        Ok(Origin::default())
    }

    /// A copy of all that it holds, for [`restore`](Self::restore): here, or in another process whose expert has the
    /// same [`origin`](Self::origin). An expert that copies nothing returns an empty state.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsupported`], [`StateError::Server`], [`StateError::Memory`].
    fn save(&mut self) -> Result<ExpertState, StateError> {
        Ok(ExpertState::default())
    }

    /// Checks whether a state is sound and has room here. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    fn check<'a>(&self, state: &'a ExpertState) -> Result<CheckedState<'a>, StateError> {
        Ok(CheckedState::new(state, ()))
    }

    /// Puts a state that this expert has [checked](Self::check) in the place of what is there. The next
    /// [`advance`](Self::advance) decodes only what the state lacks. A state that another expert has checked is checked
    /// again.
    ///
    /// # Errors
    ///
    /// [`StateError`]; the expert is then empty, or as it was where the state is refused before llama.cpp reads it.
    fn restore_checked(&mut self, state: &CheckedState<'_>) -> Result<(), StateError> {
        self.check(state.state())?;
        self.forget();
        Ok(())
    }

    /// [Checks](Self::check) a state, and [puts](Self::restore_checked) it in the place of what is there.
    ///
    /// # Errors
    ///
    /// As these.
    fn restore(&mut self, state: &ExpertState) -> Result<(), StateError> {
        self.restore_checked(&self.check(state)?)
    }
}

/// A state that an expert has checked. What was found is kept, so that a state of gigabytes is walked through once.
pub struct CheckedState<'a> {
    state: &'a ExpertState,
    found: Box<dyn Any + Send>,
}

impl<'a> CheckedState<'a> {
    /// `found` is for the expert that has checked the state.
    pub(crate) fn new(state: &'a ExpertState, found: impl Any + Send) -> Self {
        Self { state, found: Box::new(found) }
    }

    /// The state.
    pub fn state(&self) -> &'a ExpertState {
        self.state
    }

    /// What the check found, where that is of this type.
    pub(crate) fn found<T: 'static>(&self) -> Option<&T> {
        self.found.downcast_ref()
    }
}

/// What an expert's memory depends on: two experts of equal origin can take over each other's state.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// Fingerprint of the model's file.
    pub model: String,
    /// Fingerprints of its adapters, and the factors on them.
    pub adapters: Vec<(String, f32)>,
    /// Settings of the context by the names of their flags, such as `cache-type-k`.
    pub settings: Vec<(String, String)>,
}

/// What an expert has in memory, as [`Expert::save`] returns it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExpertState {
    /// The tokens in memory.
    pub tokens: Vec<Token>,
    /// How many tokens at the beginning are read without the adapter, where that acts on responses alone.
    pub n_plain: usize,
    /// From each of these tokens on, until the next one's, the adapter was read with these coefficients.
    pub read_with: Vec<(usize, Vec<f32>)>,
    /// The memory itself, opaque; empty where there are no tokens.
    pub memory: Arc<Vec<u8>>,
    /// An earlier state that a recurrent model can go back to.
    pub earlier: Option<Box<ExpertState>>,
}

/// Why an expert's state cannot be saved or restored.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// The memory of this architecture is of a kind that cannot be checked, so it is not saved.
    #[error("the caches of this architecture cannot be saved")]
    Unsupported,
    /// A file is another one than when it was loaded.
    #[error("{file} has changed since it was loaded")]
    Changed {
        /// The file.
        file: String,
    },
    /// A file cannot be read for its fingerprint.
    #[error("cannot read {file}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// More tokens than the context has room for.
    #[error("its cache holds {n_tokens} tokens, and its context has room for {n_ctx}; give a larger --n-ctx")]
    TooLong {
        /// Tokens of the state.
        n_tokens: usize,
        /// The expert's limit, in tokens.
        n_ctx: usize,
    },
    /// The state is not one that [`Expert::save`] returns.
    #[error("its cache is damaged: {what}")]
    Broken {
        /// What is wrong.
        what: &'static str,
    },
    /// llama.cpp refused it.
    #[error("llama.cpp does not take its cache (see --verbose)")]
    Refused,
    /// A server that holds a part of the cache is lost.
    #[error("lost the RPC server {endpoint}: {reason}; start it again, then retry")]
    Server {
        /// Its `host:port`.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// There is no memory for a copy.
    #[error("there is no memory for a copy of its cache, {n_bytes} bytes")]
    Memory {
        /// Size of the copy.
        n_bytes: usize,
    },
}

/// Why an [`Expert`] could not be brought to a history.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpertError {
    /// The history does not fit.
    #[error("the context is full: {wanted} tokens do not fit in n_ctx = {n_ctx}")]
    ContextFull {
        /// Length of the history asked for, in tokens.
        wanted: usize,
        /// The expert's limit, in tokens.
        n_ctx: usize,
    },
    /// `k` was 0 or larger than the history.
    #[error("{k} positions requested, but the history has {len} tokens")]
    BadRows {
        /// Rows asked for.
        k: usize,
        /// Length of the history, in tokens.
        len: usize,
    },
    /// More rows than one batch gives.
    #[error("asked for the logits of {k} positions at once; this expert gives {max} (n_batch)")]
    TooManyRows {
        /// Rows asked for.
        k: usize,
        /// The expert's limit.
        max: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {n_vocab} tokens")]
    BadToken {
        /// The offending id.
        token: Token,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// The user asked to stop (Ctrl-C) while a batch was being computed.
    #[error("interrupted")]
    Interrupted,
    /// A server that holds a part of the model is lost. The expert stays lost; one that is loaded anew connects again.
    #[error("lost the RPC server {endpoint}: {reason}; start it again, then retry")]
    Server {
        /// Its `host:port`.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The logits are no numbers, so nothing can be drawn from them.
    #[error(
        "its logits hold {what} (at token {token}): its weights are damaged, or the backend computes them wrongly; \
         check the file, or try --flash-attn off or another --device"
    )]
    NotFinite {
        /// "NaN" or "+inf".
        what: &'static str,
        /// The first such token.
        token: Token,
    },
    /// The graph is not the one that the adapters were stacked for.
    #[error(
        "llama.cpp's graph lacks the places where the adapters of a shared batch are told apart; give --share-batch off"
    )]
    Unmasked,
    /// A control token in the prompt that an ARM of another vocabulary does not have.
    #[error("the prompt has {token}, which this ARM lacks; give the ARM a template of its own, or leave the token out")]
    Untranslatable {
        /// Its name.
        token: String,
    },
    /// llama.cpp refused the batch.
    #[error("llama_decode failed with code {code} on a batch of {n_tokens} tokens")]
    Decode {
        /// What `llama_decode` returned.
        code: i32,
        /// Size of the batch.
        n_tokens: usize,
    },
}

/// Checks the arguments of [`Expert::advance`], alike for every implementation.
///
/// # Errors
///
/// The first of [`ExpertError::BadRows`], [`ExpertError::ContextFull`] and [`ExpertError::BadToken`] that applies.
pub fn check_request(history: &[Token], k: usize, n_ctx: usize, n_vocab: usize) -> Result<(), ExpertError> {
    if k == 0 || k > history.len() {
        return Err(ExpertError::BadRows { k, len: history.len() });
    }
    if history.len() > n_ctx {
        return Err(ExpertError::ContextFull { wanted: history.len(), n_ctx });
    }
    match history.iter().find(|t| usize::try_from(**t).map_or(true, |t| t >= n_vocab)) {
        Some(&token) => Err(ExpertError::BadToken { token, n_vocab }),
        None => Ok(()),
    }
}

/// Whether a logit can be reckoned with. −inf can: it forbids a token.
#[inline(always)]
pub(crate) fn is_number(logit: f32) -> bool {
    // Without a branch, so that loops over a row are vectorised.
    !logit.is_nan() & (logit != f32::INFINITY)
}

/// Refuses a row of logits that holds NaN or +inf.
///
/// # Errors
///
/// [`ExpertError::NotFinite`].
pub fn check_finite(row: &[f32]) -> Result<(), ExpertError> {
    match row.iter().position(|logit| !is_number(*logit)) {
        Some(at) => {
            let what = if row[at].is_nan() { "NaN" } else { "+inf" };
            Err(ExpertError::NotFinite { what, token: Token::try_from(at).unwrap_or(Token::MAX) })
        }
        None => Ok(()),
    }
}

/// Length of the longest common prefix of two histories, in tokens.
pub fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
