//! Work that calls itself many times over: on a thread with room for it.

use std::io;
use std::thread::{self, Builder};

/// Bytes of its stack. Only what is used takes memory.
const STACK_BYTES: usize = 256 << 20;

/// Does work on a thread of its own, with a large stack, and waits for it.
///
/// # Errors
///
/// Where there is no thread to be had; within, where the work panicked.
pub(crate) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<thread::Result<T>> {
    thread::scope(|scope| {
        let thread = Builder::new().name("deep".into()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).map(|thread| thread.join())
    })
}
