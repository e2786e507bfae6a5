//! The signals that the server obeys.

#[cfg(unix)]
use std::{future::poll_fn, task::Poll};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

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

/// Ctrl-C, where there is nothing else.
#[cfg(not(unix))]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// As on Unix.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// As on Unix.
    pub async fn next(&mut self) -> Asked {
        let _ = tokio::signal::ctrl_c().await;
        Asked::End
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
