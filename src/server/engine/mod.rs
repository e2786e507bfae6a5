//! The engine: one thread that owns the session and decodes all texts together.
//!
//! Requests become [`Job`]s in a bounded queue; each answers through a channel of its own. What else is shared with the
//! threads that speak HTTP are the metrics, and the weights of an answer while it runs ([`LiveWeights`]).

mod job;
mod live;
mod queue;
mod running_job;
mod slot_place;
mod slot_task;
mod steps;
mod worker;

pub use job::{Ended, Event, Generate, Job, Piece, Scored, Task, Timings};
pub use live::{LiveChoice, LiveWeights, WeightChange};
pub use queue::{Queue, Refused};
pub use slot_place::SlotPlace;
pub use slot_task::{SlotAction, SlotAnswer, SlotTask};

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::options::Limits;
use crate::session::Session;

/// The engine's thread, and the way to it.
pub struct Engine {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Opens a session on a thread of its own and serves its slots. `opened` is called there with the session; what it
    /// returns is handed to the caller.
    ///
    /// llama.cpp's threads belong to the thread that decodes, so that is also the one that opens the models.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub fn start<T: Send + 'static>(
        open: impl FnOnce() -> anyhow::Result<Session> + Send + 'static,
        opened: impl FnOnce(&mut Session) -> T + Send + 'static,
        limits: &Limits,
        metrics: Metrics,
    ) -> anyhow::Result<(Self, T)> {
        let (tell, told) = std::sync::mpsc::channel();
        let limits = limits.clone();
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            let mut session = match open() {
                Ok(session) => session,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let queue = Arc::new(Queue::new(session.slots().len(), limits.queue));
            let what = opened(&mut session);
            if tell.send(Ok((Arc::clone(&queue), what))).is_ok() {
                // Close the queue even if the thread panics, so that no request waits for ever.
                let _closed = queue.close_at_drop();
                worker::Worker::new(session, Arc::clone(&queue), limits, metrics).run();
            }
        })?;
        let (queue, what) = told
            .recv()
            .map_err(|_| anyhow::anyhow!("the engine thread ended during start-up; see the log above"))??;
        Ok((Self { queue, thread }, what))
    }

    /// Where jobs are handed in.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for its end, but not for ever: a thread that is inside llama.cpp, or waits for another machine, cannot be
    /// ended.
    ///
    /// # Errors
    ///
    /// When it panicked, and [`Stuck`] when it does not end in time.
    pub fn join_within(self, limit: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= until {
                return Err(Stuck.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.thread.join().map_err(|_| anyhow::anyhow!("the engine ended unexpectedly; see the log above"))
    }
}

/// The engine's thread does not end. The process cannot end in good order then: what it would clean up is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine did not end in time; a model is stuck, and the texts that ran are lost")]
pub struct Stuck;

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(work: impl FnOnce() + Send + 'static) -> Engine {
        Engine { queue: Arc::new(Queue::new(1, 1)), thread: std::thread::spawn(work) }
    }

    #[test]
    fn an_engine_that_does_not_end_is_given_up() {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let stuck = engine(move || {
            let _ = blocked.recv();
        });
        let error = stuck.join_within(Duration::from_millis(20)).expect_err("it is stuck");
        assert_eq!(error.downcast_ref(), Some(&Stuck));
        drop(release);
    }

    #[test]
    fn an_engine_that_ends_or_panics_is_told_from_a_stuck_one() {
        engine(|| {}).join_within(Duration::from_secs(60)).expect("it has ended");
        let error = engine(|| panic!("on purpose")).join_within(Duration::from_secs(60)).expect_err("it panicked");
        assert!(error.downcast_ref::<Stuck>().is_none(), "{error}");
    }
}
