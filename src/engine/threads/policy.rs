//! How many threads to decode on, decided by what was seen. Pure: readings come in as numbers.
//!
//! ggml's threads wait for each other at barriers, some hundred times a token. A thread that queues for a processor
//! stops all others, so one thread too many costs far more than one too few: where threads have queued, fewer are used
//! at once. More are tried only after processors were idle for a while, and later each time it was a mistake.

/// What was seen while some tokens were decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Seconds of decoding.
    pub seconds: f64,
    /// Seconds that threads of this process queued for a processor, all together.
    pub queued: f64,
    /// Processors that nothing ran on, where that is known.
    pub idle: Option<f64>,
}

/// While a thread queues, all wait; with one thread less, an n-th of the work of n threads is lost. So about 1/n of a
/// thread in the queue, on average, is as bad as one thread less: this share of it is too much at once …
const CROWDED: f64 = 0.8;
/// … and this one is, twice in a row.
const BUSY: f64 = 0.5;
/// What every machine has now and then, in threads: so much is never too much.
const NOISE: f64 = 0.1;
/// So much of a processor must be idle before a thread is added.
const FREE: f64 = 0.7;
/// Seconds of idle processors before a thread is added, at least and at most.
const PATIENCE: (f64, f64) = (0.5, 8.0);
/// Where no processor is idle, others may yet give way to us. That is tried after so many times the patience …
const BLIND: f64 = 16.0;
/// … and after so many times what a thread too many has cost the last time.
const COST: f64 = 50.0;
/// An added thread was a mistake if it goes within so many seconds, and none if it stays so many.
const MISTAKE: f64 = 3.0;
const GOOD: f64 = 10.0;

/// The number of threads, and what led to it.
#[derive(Debug, Clone)]
pub struct Policy {
    most: u32,
    now: u32,
    /// Whether the last window was busy.
    was_busy: bool,
    /// Seconds for which processors have been idle, and seconds since the number changed.
    idle: f64,
    same: f64,
    /// Seconds of idle processors before the next thread.
    patience: f64,
    /// Whether the last change added threads.
    added: bool,
    /// Seconds of the last window that had a thread too many.
    cost: f64,
}

impl Policy {
    /// Begins with `most` threads.
    pub fn new(most: u32) -> Self {
        let now = most.max(1);
        Self { most: now, now, was_busy: false, idle: 0.0, same: 0.0, patience: PATIENCE.0, added: false, cost: 0.0 }
    }

    /// Threads to use.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Threads that are used where nothing else runs.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// Takes what was seen with [`now`](Self::now) threads, and returns how many to use from here on.
    pub fn record(&mut self, window: &Window) -> u32 {
        let queue = window.queued / window.seconds.max(1e-9);
        self.same += window.seconds;
        let above = |share: f64| queue >= (share / f64::from(self.now)).max(NOISE);
        let (is_busy, is_crowded) = (above(BUSY), above(CROWDED));
        let was_busy = std::mem::replace(&mut self.was_busy, is_busy);
        if self.now > 1 && (is_crowded || is_busy && was_busy) {
            let mistaken = self.added && self.same < MISTAKE;
            if mistaken {
                self.patience = (2.0 * self.patience).min(PATIENCE.1);
            }
            self.cost = window.seconds;
            self.change(self.now - (queue.round() as u32).clamp(1, self.now - 1), false);
        } else if self.now < self.most {
            let idle = window.idle.unwrap_or(0.0);
            self.idle = if idle >= FREE { self.idle + window.seconds } else { 0.0 };
            if self.idle >= self.patience {
                self.change(self.now + (idle.round() as u32).clamp(1, self.most - self.now), true);
            } else if self.same >= (BLIND * self.patience).max(COST * self.cost) {
                self.change(self.now + 1, true);
            }
        }
        if self.added && self.same >= GOOD {
            self.patience = PATIENCE.0;
        }
        self.now
    }

    fn change(&mut self, now: u32, added: bool) {
        (self.now, self.added) = (now, added);
        (self.idle, self.same, self.was_busy) = (0.0, 0.0, false);
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
