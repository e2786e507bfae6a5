//! The queue between requests and the engine: bounded, and closed for good.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::slot_place::SlotPlaces;
use super::{Job, SlotPlace, SlotTask};
use crate::server::error::ApiError;

/// How long the engine waits before it looks again whether a place is free.
const GLANCE: Duration = Duration::from_millis(10);

/// Jobs that wait, and how many run.
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// Jobs that may run or wait.
    room: usize,
    n_slots: usize,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Job>,
    /// Tasks for slots, which are done before jobs.
    slot_tasks: Vec<SlotTask>,
    /// Who saves or restores a slot.
    places: SlotPlaces,
    running: usize,
    /// The slots that work, as the engine stated last.
    busy: Vec<usize>,
    closed: bool,
    /// When what runs is cut off.
    stop_at: Option<Instant>,
}

/// Why jobs are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait.
    Full,
    /// The server is going down.
    Closed,
}

impl Refused {
    /// What the client is answered.
    pub fn error(self) -> ApiError {
        match self {
            Self::Full => ApiError::overloaded(),
            Self::Closed => ApiError::shutting_down(),
        }
    }
}

/// Closes a queue, and drops what waits in it, when it goes out of scope.
pub struct CloseAtDrop(Arc<Queue>);

impl Drop for CloseAtDrop {
    fn drop(&mut self) {
        self.0.close(Instant::now());
        let mut state = self.0.lock();
        state.waiting.clear();
        state.slot_tasks.clear();
        state.places.close();
    }
}

impl Queue {
    /// A queue for `n_slots` running jobs and `bound` waiting ones.
    pub fn new(n_slots: usize, bound: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), room: n_slots + bound, n_slots }
    }

    /// Hands in the jobs of a request: all or none.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn submit(&self, jobs: Vec<Job>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        // A client that has gone leaves its place at once, not when the engine comes to it.
        state.waiting.retain(|job| !job.events.is_closed());
        if state.running + state.waiting.len() + jobs.len() > self.room {
            return Err(Refused::Full);
        }
        state.waiting.extend(jobs);
        self.changed.notify_all();
        Ok(())
    }

    /// Hands in a task for a slot.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn submit_slot(&self, task: SlotTask) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        state.slot_tasks.retain(|task| !task.answer.is_closed());
        if state.slot_tasks.len() >= self.room {
            return Err(Refused::Full);
        }
        state.slot_tasks.push(task);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the place to save or restore a slot, and for the slot.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn wait_for_place(&self, slot: usize) -> Result<oneshot::Receiver<SlotPlace>, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.places.n_waiting() >= self.room {
            return Err(Refused::Full);
        }
        let place = state.places.wait(slot);
        self.changed.notify_all();
        Ok(place)
    }

    /// Takes no more jobs; what runs is cut off at `stop_at`.
    pub fn close(&self, stop_at: Instant) {
        let mut state = self.lock();
        state.closed = true;
        state.places.close();
        state.stop_at = Some(state.stop_at.map_or(stop_at, |earlier| earlier.min(stop_at)));
        self.changed.notify_all();
    }

    /// Whether it takes no more jobs.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many jobs run and wait.
    pub fn load(&self) -> (usize, usize) {
        let mut state = self.lock();
        state.waiting.retain(|job| !job.events.is_closed());
        (state.running, state.waiting.len())
    }

    /// The slots that work.
    pub fn busy(&self) -> Vec<usize> {
        self.lock().busy.clone()
    }

    /// The engine states in which slots jobs run.
    pub(super) fn set_running(&self, busy: Vec<usize>) {
        let mut state = self.lock();
        state.running = busy.len();
        state.busy = busy;
    }

    /// How many jobs run at once.
    pub fn n_slots(&self) -> usize {
        self.n_slots
    }

    pub(super) fn close_at_drop(self: &Arc<Self>) -> CloseAtDrop {
        CloseAtDrop(Arc::clone(self))
    }

    /// The engine's turn: tells which slots are `free`, waits where all are and nothing is to be done, and takes what
    /// they can do: tasks for them, and jobs. Jobs for which `gone` is true are taken too, and do not count. `None`
    /// when the queue is closed and nothing runs.
    pub(super) fn take(&self, mut free: Vec<usize>, gone: impl Fn(&Job) -> bool) -> Option<Taken> {
        let mut state = self.lock();
        let running = self.n_slots - free.len();
        state.running = running;
        while running == 0 && state.waiting.is_empty() && state.slot_tasks.is_empty() && state.places.n_waiting() == 0 {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let closed = state.closed;
        let is_due = |task: &mut SlotTask| closed || task.answer.is_closed() || free.contains(&task.slot);
        let slot_tasks = state.slot_tasks.extract_if(.., is_due).collect();
        state.places.grant(&free);
        let held = state.places.held();
        free.retain(|slot| Some(*slot) != held);
        let mut taken = Taken { slot_tasks, jobs: Vec::new(), gone: Vec::new(), held, closed, stop_at: state.stop_at };
        let mut left = VecDeque::with_capacity(state.waiting.len());
        // Of the free slots, those that any job may take, less the jobs that will.
        let mut n_any = 0;
        for job in std::mem::take(&mut state.waiting) {
            if taken.closed || gone(&job) {
                taken.gone.push(job);
            } else if free.len() > n_any && job.slot.is_none_or(|slot| free.contains(&slot)) {
                match job.slot {
                    Some(slot) => free.retain(|other| *other != slot),
                    None => n_any += 1,
                }
                taken.jobs.push(job);
            } else {
                left.push_back(job);
            }
        }
        // Before the others, which take what is left.
        taken.jobs.sort_by_key(|job| job.slot.is_none());
        state.waiting = left;
        state.running = running + taken.jobs.len();
        if running == 0 && taken.is_empty() && !closed {
            // All that waits here, waits for a place.
            drop(self.changed.wait_timeout(state, GLANCE));
        }
        Some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine found in the queue.
pub(super) struct Taken {
    /// Tasks for free slots; where no more will come, all tasks.
    pub slot_tasks: Vec<SlotTask>,
    /// Jobs to run.
    pub jobs: Vec<Job>,
    /// Jobs that are not to be run any more.
    pub gone: Vec<Job>,
    /// The slot that they leave alone.
    pub held: Option<usize>,
    /// Whether no more will come.
    pub closed: bool,
    /// When what runs is cut off.
    pub stop_at: Option<Instant>,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.slot_tasks.is_empty() && self.jobs.is_empty() && self.gone.is_empty()
    }
}
