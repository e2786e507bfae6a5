//! The answers that are being written, by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::LiveWeights;
use crate::config::Config;

/// The answers that are being written. A clone refers to the same ones.
#[derive(Clone, Default)]
pub struct RunningAnswers {
    by_id: Arc<Mutex<HashMap<String, Arc<Running>>>>,
}

/// An answer that is being written.
pub struct Running {
    /// Its weights.
    pub live: Arc<LiveWeights>,
    /// Its ARMs, personas and profiles.
    pub config: Arc<Config>,
    /// Whether its weights follow a log.
    pub replays: bool,
}

/// Removes an answer when it goes out of scope.
pub struct Registered {
    answers: RunningAnswers,
    id: String,
}

impl RunningAnswers {
    /// Adds one, until what is returned goes out of scope.
    pub fn add(&self, id: String, running: Running) -> Registered {
        self.lock().insert(id.clone(), Arc::new(running));
        Registered { answers: self.clone(), id }
    }

    /// The answer with this id, unless all its texts have ended.
    pub fn get(&self, id: &str) -> Option<Arc<Running>> {
        let found = self.lock().get(id).cloned();
        found.filter(|running| !running.live.is_over())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.answers.lock().remove(&self.id);
    }
}
