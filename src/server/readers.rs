//! Texts become tokens away from the threads that speak HTTP and from the engine: few at a time, and only as long as
//! that is of use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::ApiError;
use crate::engine::llama::{Bound, bounded};

/// Requests whose prompts are read at once. Each is bounded by the context.
const N_PROMPTS: usize = 16;
/// Requests for tokens themselves that are answered at once: these are bounded by nothing but the body of a request.
const N_TOOLS: usize = 4;
/// Grammars, and lists of sequence breakers, that are compiled at once: the other processors stay with the texts.
const N_GRAMMARS: usize = 2;

/// Room for requests whose texts are read.
pub struct Readers {
    prompts: Arc<Semaphore>,
    tools: Arc<Semaphore>,
    grammars: Arc<Semaphore>,
}

/// What the tokens are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The models read them: more of them than the context has are of no use.
    Prompt,
    /// The client gets them.
    Answer,
    /// A grammar is compiled for the vocabulary, or the sequence breakers of DRY are found in it.
    Grammar,
}

impl Default for Readers {
    fn default() -> Self {
        let room = |n| Arc::new(Semaphore::new(n));
        Self { prompts: room(N_PROMPTS), tools: room(N_TOOLS), grammars: room(N_GRAMMARS) }
    }
}

impl Readers {
    /// Whether any text is being read.
    pub fn are_busy(&self) -> bool {
        let free = [&self.prompts, &self.tools, &self.grammars].map(|room| room.available_permits());
        free != [N_PROMPTS, N_TOOLS, N_GRAMMARS]
    }

    /// Calls `read`, which tokenizes or compiles, on a thread of its own. It stops early where a text has more tokens
    /// than its purpose allows (`n_ctx` for a prompt), when the caller drops this, and when `is_closed`.
    ///
    /// # Errors
    ///
    /// That of `read`; [`ApiError::queued_too_long`] where no place is free within `timeout`.
    pub async fn off_thread<T: Send + 'static>(
        &self,
        purpose: Purpose,
        n_ctx: usize,
        timeout: Duration,
        is_closed: impl Fn() -> bool + Send + Sync + 'static,
        read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (room, max_tokens) = match purpose {
            Purpose::Prompt => (&self.prompts, n_ctx),
            Purpose::Answer => (&self.tools, usize::MAX),
            Purpose::Grammar => (&self.grammars, usize::MAX),
        };
        let place = tokio::time::timeout(timeout, Arc::clone(room).acquire_owned()).await;
        let place = place.map_err(|_| ApiError::queued_too_long())?.map_err(ApiError::internal)?;
        let ended = Ended(Arc::default());
        let has_ended = Arc::clone(&ended.0);
        let cancelled = Box::new(move || has_ended.load(Ordering::Relaxed) || is_closed());
        let result = tokio::task::spawn_blocking(move || {
            let _place = place;
            bounded(Bound { max_tokens, cancelled }, read)
        });
        result.await.map_err(ApiError::internal)?
    }
}

/// Says that a request has ended, also where its client has left before the answer.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
