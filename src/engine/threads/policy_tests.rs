use super::*;
use proptest::prelude::*;

const WINDOW: f64 = 0.1;

/// A machine with some processors and busy processes beside us, as the scheduler shares it out.
struct Machine {
    processors: f64,
    busy: f64,
}

impl Machine {
    /// What is seen with `n` threads: all that are too many queue, ours as often as the others.
    fn window(&self, n: u32) -> Window {
        let n = f64::from(n);
        let queue = (n + self.busy - self.processors).max(0.0);
        let idle = Some((self.processors - n - self.busy).max(0.0));
        Window { seconds: WINDOW, queued: WINDOW * queue * n / (n + self.busy), idle }
    }

    /// The threads of each window, for so many seconds.
    fn run(&self, policy: &mut Policy, seconds: f64) -> Vec<u32> {
        let n = (seconds / WINDOW) as usize;
        (0..n).map(|_| policy.record(&self.window(policy.now()))).collect()
    }
}

fn machine(processors: u32, busy: u32) -> Machine {
    Machine { processors: processors.into(), busy: busy.into() }
}

fn changes(threads: &[u32]) -> usize {
    threads.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn a_quiet_machine_keeps_all_threads() {
    for n in 1..=16 {
        assert!(machine(n, 0).run(&mut Policy::new(n), 60.0).iter().all(|threads| *threads == n));
    }
}

#[test]
fn one_busy_process_takes_one_thread_within_two_windows() {
    for n in 2..=16 {
        let mut policy = Policy::new(n);
        let threads = machine(n, 1).run(&mut policy, 1.0);
        assert!(threads[1] == n - 1 && threads[9] == n - 1, "{n}: {threads:?}");
    }
}

#[test]
fn several_busy_processes_leave_what_is_left_and_one_thread_at_least() {
    for (n, busy, left) in [(2, 2, 1), (2, 5, 1), (4, 2, 2), (8, 4, 4), (16, 6, 10)] {
        let mut policy = Policy::new(n);
        let threads = machine(n, busy).run(&mut policy, 2.0);
        assert_eq!(threads.last(), Some(&left), "{n} beside {busy}: {threads:?}");
    }
}

#[test]
fn threads_come_back_when_the_others_are_done() {
    let mut policy = Policy::new(4);
    machine(4, 2).run(&mut policy, 5.0);
    let threads = machine(4, 0).run(&mut policy, 1.0);
    assert_eq!((policy.now(), changes(&threads)), (4, 1), "{threads:?}");
}

#[test]
fn a_short_burst_takes_nothing() {
    let mut policy = Policy::new(4);
    // A seventh of a window: a daemon that wakes.
    let burst = Window { seconds: WINDOW, queued: 0.15 * WINDOW, idle: Some(0.0) };
    for _ in 0..100 {
        assert_eq!(policy.record(&burst), 4);
        assert_eq!(policy.record(&machine(4, 0).window(4)), 4);
    }
}

#[test]
fn a_thread_that_queues_less_than_it_gives_is_kept() {
    let window = |queue: f64| Window { seconds: WINDOW, queued: queue * WINDOW, idle: Some(0.0) };
    // Of two threads the second gives a half, of eight the eighth an eighth.
    for (n, little, much) in [(2, 0.24, 0.26), (8, 0.09, 0.11)] {
        let after = |queue| {
            let mut policy = Policy::new(n);
            (0..10).map(|_| policy.record(&window(queue))).min()
        };
        assert_eq!(after(little), Some(n));
        assert!(after(much) < Some(n));
    }
}

#[test]
fn a_process_that_comes_and_goes_is_followed_ever_more_slowly() {
    let mut policy = Policy::new(2);
    // Quiet for just as long as it takes to add a thread, then busy: the worst that can happen.
    let mut threads = Vec::new();
    for _ in 0..60 {
        threads.extend(machine(2, 0).run(&mut policy, 1.0));
        threads.extend(machine(2, 1).run(&mut policy, 1.0));
    }
    assert!(changes(&threads[..200]) <= 10 && changes(&threads[1000..]) <= 2, "{threads:?}");
}

#[test]
fn without_idle_processors_a_thread_is_tried_rarely() {
    let mut policy = Policy::new(2);
    let threads = machine(2, 1).run(&mut policy, 300.0);
    let tried = threads.iter().filter(|n| **n == 2).count();
    assert!((2..=6).contains(&tried), "{tried} windows of {}", threads.len());
    // Others that give way to us take no thread, though no processor is idle.
    let nice = Window { seconds: WINDOW, queued: 0.02 * WINDOW, idle: Some(0.0) };
    let threads: Vec<_> = (0..2000).map(|_| policy.record(&nice)).collect();
    assert_eq!((threads.last(), changes(&threads)), (Some(&2), 1));
}

#[test]
fn the_dearer_a_thread_too_many_was_the_later_it_is_tried_again() {
    let mut policy = Policy::new(2);
    // Three seconds for one token.
    policy.record(&Window { seconds: 3.0, queued: 3.0, idle: Some(0.0) });
    assert!(machine(2, 1).run(&mut policy, 149.0).iter().all(|threads| *threads == 1));
    assert!(machine(2, 1).run(&mut policy, 2.0).contains(&2));
}

#[test]
fn a_reading_without_idle_processors_is_as_none_idle() {
    let mut policy = Policy::new(2);
    machine(2, 1).run(&mut policy, 1.0);
    let unknown = Window { idle: None, ..machine(2, 0).window(1) };
    let threads: Vec<_> = (0..50).map(|_| policy.record(&unknown)).collect();
    assert_eq!(changes(&threads), 0, "{threads:?}");
}

proptest! {
    #[test]
    fn there_is_always_a_thread_and_never_more_than_asked_for(
        most in 1u32..64,
        windows in prop::collection::vec((0.0..2.0f64, 0.0..200.0f64, prop::option::of(0.0..80.0f64)), 0..200),
    ) {
        let mut policy = Policy::new(most);
        for (seconds, queued, idle) in windows {
            let now = policy.record(&Window { seconds, queued, idle });
            prop_assert!((1..=most).contains(&now) && now == policy.now());
        }
    }
}
