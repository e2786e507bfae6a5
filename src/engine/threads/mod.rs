//! Threads that fit the machine as it is: how many the contexts of this process decode on.
//!
//! `policy` decides, `readings` are what it decides by, and here is the one decision that all contexts follow.

mod cores;
mod policy;
mod readings;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use cores::n_cores;

use policy::{Policy, Window};
use readings::{Idle, queued};

/// Decoding between two readings, which take some 0.1 ms.
const WINDOW: Duration = Duration::from_millis(100);
/// After a pause of so much the window begins anew: what happened in it says nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The most threads that fit now.
static LIMIT: AtomicU32 = AtomicU32::new(u32::MAX);
static N_CHANGES: AtomicU64 = AtomicU64::new(0);
static N_REDUCED: AtomicU64 = AtomicU64::new(0);
static MONITOR: Mutex<Option<Monitor>> = Mutex::new(None);

/// Of `n` threads, those that fit the machine now.
fn fitting(n: u32) -> u32 {
    n.min(LIMIT.load(Ordering::Relaxed))
}

/// How often the number has changed: times measured before and after cannot be compared.
pub fn n_changes() -> u64 {
    N_CHANGES.load(Ordering::Relaxed)
}

/// Batches that were decoded on fewer threads than they would have been on a quiet machine.
pub fn n_reduced() -> u64 {
    N_REDUCED.load(Ordering::Relaxed)
}

/// Takes note that a batch begins.
fn begin(n: u32) -> Instant {
    let now = Instant::now();
    if n > 1 {
        let mut monitor = MONITOR.lock().unwrap_or_else(PoisonError::into_inner);
        monitor.get_or_insert_with(|| Monitor::new(n)).begin(n, now);
    }
    now
}

/// Takes note of a batch that was decoded on [`fitting`]`(n)` threads since it [began](begin).
fn end(n: u32, start: Instant) {
    if fitting(n) < n {
        N_REDUCED.fetch_add(1, Ordering::Relaxed);
    }
    let mut monitor = MONITOR.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(monitor) = monitor.as_mut().filter(|_| n > 1) else { return };
    if let Some(limit) = monitor.end(start, Instant::now()) {
        tracing::info!("decoding on {limit} of {} threads", monitor.policy.most());
        LIMIT.store(if limit == monitor.policy.most() { u32::MAX } else { limit }, Ordering::Relaxed);
        N_CHANGES.fetch_add(1, Ordering::Relaxed);
    }
}

/// The threads of a context: a number that stays, or at most so many, as they fit the machine.
#[derive(Debug)]
pub struct Threads {
    most: Option<u32>,
    set: u32,
}

impl Threads {
    /// Of a context that is made with `n` threads, which may become fewer under `fewer`.
    pub fn new(n: u32, fewer: bool) -> Self {
        Self { most: fewer.then_some(n), set: n }
    }

    /// The number to set before the next batch, where it is another one.
    pub fn changed(&mut self) -> Option<i32> {
        let now = fitting(self.most?);
        let changes = std::mem::replace(&mut self.set, now) != now;
        changes.then(|| i32::try_from(now).unwrap_or(i32::MAX))
    }

    /// Decodes a batch, and takes note of it.
    pub fn decode<T>(&self, decode: impl FnOnce() -> T) -> T {
        let start = self.most.map(begin);
        let decoded = decode();
        if let (Some(most), Some(start)) = (self.most, start) {
            end(most, start);
        }
        decoded
    }
}

struct Monitor {
    policy: Policy,
    /// When the last batch ended.
    last: Option<Instant>,
    /// When this window began, the decoding in it, and the time in the queue before it.
    opened: Instant,
    decoded: Duration,
    queued: Option<f64>,
    idle: Option<Idle>,
}

impl Monitor {
    fn new(most: u32) -> Self {
        let opened = Instant::now();
        Self { policy: Policy::new(most), last: None, opened, decoded: Duration::ZERO, queued: None, idle: None }
    }

    /// Takes note that a batch begins, and with it a window after a pause.
    fn begin(&mut self, n: u32, start: Instant) {
        if n > self.policy.most() {
            *self = Self::new(n);
            if LIMIT.swap(u32::MAX, Ordering::Relaxed) != u32::MAX {
                N_CHANGES.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.last.is_none_or(|last| start.saturating_duration_since(last) > PAUSE) {
            self.open();
        }
    }

    /// Takes note of a batch, and returns the number of threads where it changes.
    fn end(&mut self, start: Instant, end: Instant) -> Option<u32> {
        self.last = Some(end);
        self.decoded += end.saturating_duration_since(start);
        if self.decoded < WINDOW {
            return None;
        }
        // The threads of a host queue between batches too.
        let (seconds, before) = (end.saturating_duration_since(self.opened).as_secs_f64(), self.queued);
        self.open();
        let queued = (self.queued? - before?).max(0.0);
        let now = self.policy.now();
        let idle = if now < self.policy.most() { self.idle.get_or_insert_with(Idle::new).read() } else { None };
        let limit = self.policy.record(&Window { seconds, queued, idle });
        tracing::trace!("{seconds:.3} s on {now} threads, {queued:.3} s in the queue, {idle:?} idle");
        if limit == self.policy.most() {
            self.idle = None;
        }
        (limit != now).then_some(limit)
    }

    /// Begins a window.
    fn open(&mut self) {
        (self.opened, self.decoded, self.queued) = (Instant::now(), Duration::ZERO, queued());
    }
}
