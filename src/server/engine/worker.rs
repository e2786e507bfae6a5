//! The loop of the engine's thread: admit, step, deliver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Queue, Taken};
use super::running_job::RunningJob;
use super::{Event, Job};
use crate::engine::llama::Vocab;
use crate::server::error::ApiError;
use crate::server::metrics::Metrics;
use crate::server::options::Limits;
use crate::session::{Scheduler, Session};

/// How long to wait where all clients are slow.
const PAUSE: Duration = Duration::from_millis(5);

/// The engine's state.
pub(super) struct Worker {
    session: Session,
    vocab: Vocab,
    scheduler: Scheduler<RunningJob>,
    queue: Arc<Queue>,
    limits: Limits,
    metrics: Metrics,
}

impl Worker {
    pub fn new(mut session: Session, queue: Arc<Queue>, limits: Limits, metrics: Metrics) -> Self {
        let (vocab, scheduler) = (session.vocab().clone(), Scheduler::live(session.slots().len()));
        Self { session, vocab, scheduler, queue, limits, metrics }
    }

    /// Works until the queue is closed and what runs has ended.
    pub fn run(mut self) {
        loop {
            self.drop_gone();
            self.count_running();
            let (now, timeout) = (Instant::now(), self.limits.queue_timeout);
            let gone = |job: &Job| job.events.is_closed() || now.duration_since(job.came) > timeout;
            let Some(taken) = self.queue.take(self.scheduler.free().collect(), gone) else { return };
            let stop_at = taken.stop_at;
            self.admit(taken);
            self.count_running();
            if stop_at.is_some_and(|at| Instant::now() >= at) {
                for mut running_job in self.scheduler.take(|_| true) {
                    running_job.cancel();
                    running_job.hand_over();
                }
                continue;
            }
            self.step();
        }
    }

    /// Does the tasks and begins the jobs that were taken, and answers those that are not to be run.
    fn admit(&mut self, taken: Taken) {
        for task in taken.slot_tasks {
            match taken.closed {
                true => task.refuse(),
                false => {
                    let slot = task.slot;
                    task.run(&mut self.session.slots()[slot]);
                }
            }
        }
        for job in taken.gone {
            let error = if taken.closed { ApiError::shutting_down() } else { ApiError::queued_too_long() };
            let _ = job.events.try_send((job.choice, Event::Failed(error)));
        }
        let mut failed = Vec::new();
        for job in taken.jobs {
            self.metrics.queue_seconds.observe(job.came.elapsed().as_secs_f64());
            failed.extend(self.begin(job, taken.held));
        }
        // Before the answers: a client that has one may look at once.
        self.count_running();
        for (job, error) in failed {
            let _ = job.events.try_send((job.choice, Event::Failed(error)));
        }
    }

    /// States how many jobs run.
    fn count_running(&mut self) {
        let n_running = self.scheduler.n_running();
        self.metrics.slots_busy.set(n_running as i64);
        self.queue.set_running(self.scheduler.texts().map(|running| running.at()).collect());
    }

    /// Begins a job in a free slot, which is not `held`. Returns the job with an error where it cannot begin.
    fn begin(&mut self, job: Job, held: Option<usize>) -> Option<(Job, ApiError)> {
        let slots = self.session.slots();
        let chosen = match job.slot {
            Some(at) => Some(self.scheduler.claim(at)),
            None => self.scheduler.choose(slots, &job.prompt.base, held),
        };
        let Some(at) = chosen else { unreachable!("as many jobs were taken as slots are free") };
        match RunningJob::begin(job, at, &mut slots[at], &self.vocab, self.limits.request_timeout) {
            Ok(running_job) => {
                self.scheduler.run(at, running_job);
                None
            }
            Err(failed) => Some(*failed),
        }
    }

    /// Frees the slots of clients that have gone, or have taken nothing for too long.
    fn drop_gone(&mut self) {
        let gone = self.scheduler.take(|running| {
            let stuck = running.stuck_since().is_some_and(|since| since.elapsed() > self.limits.idle_timeout);
            running.job.events.is_closed() || stuck
        });
        self.metrics.cancelled.inc_by(gone.len() as u64);
    }

    /// Hands events to clients, and frees the slots of texts that have ended. Everything is counted before an answer
    /// goes out.
    fn deliver(&mut self) {
        let over = self.scheduler.take(RunningJob::is_over);
        if !over.is_empty() {
            self.count_running();
        }
        over.into_iter().for_each(RunningJob::hand_over);
        for running_job in self.scheduler.texts() {
            running_job.flush();
        }
    }

    /// One step of every text whose client keeps up.
    fn step(&mut self) {
        let start = Instant::now();
        self.deliver();
        let (slots, speculator) = self.session.slots_and_speculator();
        if !self.scheduler.step(slots, speculator) {
            if self.scheduler.n_running() > 0 {
                std::thread::sleep(PAUSE);
            }
            return;
        }
        self.scheduler.texts().for_each(|running_job| running_job.count(&self.metrics));
        self.metrics.step_seconds.observe(start.elapsed().as_secs_f64());
        self.deliver();
    }
}
