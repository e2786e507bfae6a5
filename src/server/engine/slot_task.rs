//! What clients do with what a slot holds, between two texts in it.

use tokio::sync::oneshot;

use super::SlotPlace;
use crate::server::error::ApiError;
use crate::session::{Caches, Slot};

/// A task for one slot. It waits until the slot is free.
pub struct SlotTask {
    /// The slot's number.
    pub slot: usize,
    /// What is to be done.
    pub action: SlotAction,
    /// Where the answer goes. Closed by the other side, it ends the task.
    pub answer: oneshot::Sender<Result<SlotAnswer, ApiError>>,
}

/// What is to be done with a slot.
pub enum SlotAction {
    /// Copy the caches of all models.
    Save(SlotPlace),
    /// Put these caches in their place.
    Restore(Box<Caches>, SlotPlace),
    /// Drop them.
    Erase,
}

/// What was done with a slot.
pub enum SlotAnswer {
    /// The caches, and the place that they take.
    Saved(Box<Caches>, SlotPlace),
    /// The slot holds the caches of so many tokens.
    Restored(usize),
    /// The slot held so many tokens.
    Erased(usize),
}

impl SlotTask {
    /// Runs the task on the engine's thread. It copies memory only; files are read and written elsewhere.
    pub(super) fn run(self, slot: &mut Slot) {
        if self.answer.is_closed() {
            return;
        }
        let done = match self.action {
            SlotAction::Save(place) => {
                let saved = slot.save_caches();
                place.free_slot();
                let saved = saved.map(|caches| SlotAnswer::Saved(Box::new(caches), place));
                saved.map_err(|error| ApiError::bad_request(format!("Unable to save slot: {error}")))
            }
            SlotAction::Restore(caches, _place) => {
                let restored = slot.restore_caches(&caches).map(|()| SlotAnswer::Restored(caches.n_tokens()));
                restored.map_err(|error| ApiError::bad_request(format!("Unable to restore slot: {error}")))
            }
            SlotAction::Erase => {
                let n = slot.base().n_held();
                slot.forget();
                Ok(SlotAnswer::Erased(n))
            }
        };
        let _ = self.answer.send(done);
    }

    /// Answers that the server ends.
    pub(super) fn refuse(self) {
        let _ = self.answer.send(Err(ApiError::shutting_down()));
    }
}
