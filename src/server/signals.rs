//! The signals that the server obeys.

use std::future::poll_fn;
use std::task::Poll;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// The signals that are listened to.
#[cfg(unix)]
pub struct Signals {
    /// SIGTERM and SIGINT.
    end: [Signal; 2],
    /// SIGHUP.
    reload: Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes the signals over from the system.
    ///
    /// # Errors
    ///
    /// When it does not give them.
    pub fn new() -> std::io::Result<Self> {
        let end = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        Ok(Self { end, reload: signal(SignalKind::hangup())? })
    }

    /// Resolves to what is asked for next.
    pub async fn next(&mut self) -> Asked {
        poll_fn(|cx| {
            if self.end.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
                return Poll::Ready(Asked::End);
            }
            self.reload.poll_recv(cx).map(|_| Asked::Reload)
        })
        .await
    }
}

/// Ctrl-C, Ctrl-Break, the console's end and the system's. Windows has no signal to reload by; a saved file is noticed
/// anyway.
#[cfg(windows)]
pub struct Signals(CtrlC, CtrlBreak, CtrlClose, CtrlShutdown);

#[cfg(windows)]
impl Signals {
    /// As on Unix.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(ctrl_c()?, ctrl_break()?, ctrl_close()?, ctrl_shutdown()?))
    }

    /// As on Unix.
    pub async fn next(&mut self) -> Asked {
        poll_fn(|cx| {
            let Self(c, b, close, shutdown) = self;
            let asked = [c.poll_recv(cx), b.poll_recv(cx), close.poll_recv(cx), shutdown.poll_recv(cx)];
            if asked.iter().any(Poll::is_ready) { Poll::Ready(Asked::End) } else { Poll::Pending }
        })
        .await
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To end.
    End,
    /// To read the configuration again.
    Reload,
}
