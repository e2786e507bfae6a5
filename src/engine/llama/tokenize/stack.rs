//! A stack that is deep enough for llama.cpp's regular expressions.
//!
//! Where llama.cpp has no scanner of its own for a pre-tokenizer it takes `std::regex`, which calls itself for every
//! character of a match: 320 bytes of stack a character in libstdc++ (measured with -O2 and -O3 over all pre-tokenizers
//! and twenty kinds of text).

use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use super::TokenizeError;
use super::bound::Count;

/// Stack for a character of a match: three times what was measured, for other compilers. Memory is taken only where it
/// is touched.
const BYTES_PER_CHARACTER: usize = 1024;
/// The longest text without a place to cut it. Its stack is 4 GiB of addresses, of which 1.3 GiB are touched at most.
pub(super) const MAX_CHARACTERS: usize = 4 << 20;
/// What all else in a call takes.
const BASE: usize = 512 << 10;
/// Characters that are read on the caller's own stack, which may be small where a host calls.
pub(super) const SHALLOW: usize = 48;
/// Characters from which texts are read one after the other, so that their stacks do not add up.
const ALONE: usize = 64 << 10;

/// Calls `read`, which matches up to `n_characters` at once.
pub(super) fn with_stack<T: Send>(
    n_characters: usize,
    count: &Count,
    read: impl FnOnce() -> Result<T, TokenizeError> + Send,
) -> Result<T, TokenizeError> {
    static TURN: Mutex<()> = Mutex::new(());
    if n_characters <= SHALLOW {
        return read();
    }
    if n_characters > MAX_CHARACTERS {
        return Err(TokenizeError::Run { n_characters, max: MAX_CHARACTERS });
    }
    let _turn = match n_characters > ALONE {
        true => Some(loop {
            match TURN.try_lock() {
                Ok(turn) => break turn,
                Err(TryLockError::Poisoned(turn)) => break PoisonError::into_inner(turn),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
            count.check()?;
        }),
        false => None,
    };
    let no_stack = || TokenizeError::Stack { n_characters };
    let n_bytes =
        n_characters.checked_mul(BYTES_PER_CHARACTER).and_then(|n| n.checked_add(BASE)).ok_or_else(no_stack)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("tokenize".into()).stack_size(n_bytes);
        let thread = thread.spawn_scoped(scope, read).map_err(|_| no_stack())?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
