//! Ctrl-C.

use std::sync::OnceLock;

use crate::engine::llama::interrupt_flag;

/// Lets Ctrl-C end the decode or download in progress; a second one ends the process.
pub fn catch_interrupts() -> anyhow::Result<()> {
    static CAUGHT: OnceLock<()> = OnceLock::new();
    if CAUGHT.set(()).is_err() {
        // Registered twice, the first signal would count as the second one too.
        return Ok(());
    }
    let flag = interrupt_flag();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())?;
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(())
}
