//! The engine: one thread that owns the session and decodes all texts together.
//!
//! Requests become [`Job`]s in a bounded queue; each answers through a channel of its own. Nothing else is shared with the threads
//! that speak HTTP.

mod job;
mod queue;
mod slot;
mod worker;

pub use job::{Ended, Event, Generate, Job, Piece, Scored, Task, Timings};
pub use queue::{Queue, Refused};

use std::sync::Arc;
use std::thread::JoinHandle;

use super::metrics::Metrics;
use super::options::Limits;
use crate::session::Session;

/// The engine's thread, and the way to it.
pub struct Engine {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Opens a session on a thread of its own and serves its lanes. `opened` is called there with the session; what it returns
    /// is handed to the caller.
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
            let queue = Arc::new(Queue::new(session.lanes().len(), limits.queue));
            let what = opened(&mut session);
            if tell.send(Ok((Arc::clone(&queue), what))).is_ok() {
                // Also when a panic ends the thread: nobody waits for it then.
                let _closed = queue.close_at_drop();
                worker::Worker::new(session, Arc::clone(&queue), limits, metrics).run();
            }
        })?;
        let (queue, what) = told.recv().map_err(|_| anyhow::anyhow!("the engine ended while it was starting"))??;
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

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it panicked.
    pub fn join(self) -> anyhow::Result<()> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the engine ended unexpectedly; see the log above"))
    }
}
