//! What the system says of this process and its processors.

use std::time::Instant;

use sysinfo::System;

/// Seconds that the threads of this process have queued for a processor so far. `None` where the system does not say:
/// only Linux does.
#[cfg(target_os = "linux")]
pub fn queued() -> Option<f64> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let mut nanoseconds = 0u64;
    for thread in threads {
        // A thread may have ended since.
        let Ok(text) = std::fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        nanoseconds += queued_in(&text)?;
    }
    Some(nanoseconds as f64 / 1e9)
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub fn queued() -> Option<f64> {
    None
}

/// A line of `schedstat`: nanoseconds on a processor, nanoseconds in its queue, and turns.
#[cfg(any(target_os = "linux", test))]
fn queued_in(line: &str) -> Option<u64> {
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Processors that nothing runs on.
#[derive(Debug)]
pub struct Idle {
    system: System,
    /// Whether this process may use them all: else those of others count for nothing.
    all: bool,
    /// When they were first counted.
    since: Instant,
}

impl Idle {
    pub fn new() -> Self {
        let mut system = System::new();
        system.refresh_cpu_usage();
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        let all = system.cpus().len() == allowed;
        Self { system, all, since: Instant::now() }
    }

    /// How many there were, on average, since the last call; at most five times a second it is counted anew.
    pub fn read(&mut self) -> Option<f64> {
        // Before its second count sysinfo takes every processor for idle.
        let is_counted = self.since.elapsed() >= sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;
        self.system.refresh_cpu_usage();
        let idle = |cpu: &sysinfo::Cpu| 1.0 - f64::from(cpu.cpu_usage()) / 100.0;
        (self.all && is_counted).then(|| self.system.cpus().iter().map(idle).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_schedstat_names_the_time_in_the_queue() {
        assert_eq!(queued_in("213918374 1500000000 4217\n"), Some(1_500_000_000));
        assert_eq!((queued_in("213918374\n"), queued_in("")), (None, None));
    }

    #[test]
    fn the_time_in_the_queue_only_grows() {
        let first = queued();
        assert_eq!(first.is_some(), cfg!(target_os = "linux") && std::path::Path::new("/proc/self/schedstat").exists());
        assert!(first <= queued());
    }

    #[test]
    fn idle_processors_are_not_more_than_there_are() {
        let mut idle = Idle::new();
        let n = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        assert!(idle.read().is_none_or(|idle| (0.0..=n).contains(&idle)));
    }
}
