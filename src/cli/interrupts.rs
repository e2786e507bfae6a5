//! Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_default, register_conditional_shutdown};

use crate::engine::llama::interrupt_flag;

const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// The exit code after a second signal.
const INTERRUPTED: i32 = 130;

static CAUGHT: OnceLock<()> = OnceLock::new();

/// Whether a signal ends the process at once, as it does where no signal was ever caught. The system's own way cannot
/// be restored after a download.
static ENDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Lets Ctrl-C end the decode in progress; a second one ends the process.
pub fn catch_interrupts() -> anyhow::Result<()> {
    if CAUGHT.set(()).is_err() {
        // Registered twice, the first signal would count as the second one too.
        return Ok(());
    }
    let flag = interrupt_flag();
    for signal in SIGNALS {
        register_conditional_shutdown(signal, INTERRUPTED, flag.clone())?;
        register(signal, flag.clone())?;
    }
    leave_signals();
    Ok(())
}

/// Leaves the signals to those who have registered for them by now.
pub fn leave_signals() {
    ENDS.store(false, Ordering::Relaxed);
}

/// A download that Ctrl-C ends. The signals that come after it are not about it: a server obeys them in its own way.
pub struct Download {
    stopped: Arc<AtomicBool>,
    registered: Vec<SigId>,
}

impl Download {
    /// Catches the signals until this is dropped.
    pub fn begin() -> anyhow::Result<Self> {
        static ONCE: OnceLock<()> = OnceLock::new();
        leave_signals();
        if ONCE.set(()).is_ok() {
            for signal in SIGNALS {
                register_conditional_default(signal, Arc::clone(&ENDS))?;
            }
        }
        let mut download = Self { stopped: Arc::default(), registered: Vec::new() };
        for signal in SIGNALS {
            let stopped = || Arc::clone(&download.stopped);
            let ids = [register_conditional_shutdown(signal, INTERRUPTED, stopped())?, register(signal, stopped())?];
            download.registered.extend(ids);
        }
        Ok(download)
    }

    /// Whether a signal has come.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        ENDS.store(CAUGHT.get().is_none(), Ordering::Relaxed);
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
