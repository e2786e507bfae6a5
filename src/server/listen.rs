//! The server's life: it listens, takes connections, and ends in good order, or in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;

use super::connections::Connections;
use super::engine::Engine;
use super::options::Options;
use super::reload::{self, Watcher};
use super::signals::{Asked, Signals};
use super::state::Server;
use crate::engine::llama::interrupt_flag;

/// Called with the address on which the server listens.
pub type Listening<'a> = &'a mut dyn FnMut(SocketAddr);

/// How long connections have to close after the last text.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long texts have to end after they were cut off.
const GRACE: Duration = Duration::from_millis(250);
/// How long the engine has to end after it was interrupted.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Serves until SIGTERM or SIGINT, then lets what runs come to its end within the limit. SIGHUP, and a saved
/// configuration, change the defaults of new requests.
///
/// # Errors
///
/// When the address is taken, the engine has ended by itself, or it does not end ([`Stuck`](super::Stuck)).
pub fn serve(server: &Arc<Server>, engine: Engine, options: &Options, listening: Listening<'_>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(run(server, &engine, options, listening));
    // Also after an error: what runs would keep the engine, and the engine the process.
    server.queue.close(Instant::now());
    let ended = engine.join_within(LAST_WAIT);
    runtime.shutdown_timeout(if ended.is_ok() { GOODBYE } else { Duration::ZERO });
    result.and(ended)
}

async fn run(server: &Arc<Server>, engine: &Engine, options: &Options, listening: Listening<'_>) -> anyhow::Result<()> {
    let address = SocketAddr::new(options.host, options.port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let mut signals = Signals::new()?;
    let watcher = Watcher::new(server);
    listening(listener.local_addr()?);
    let app = super::app(Arc::clone(server));
    let connections = Connections::new(app, options);
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connections.take(stream, peer),
                // Out of file descriptors, or a client that was gone at once: others may come.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            asked = signals.next() => match asked {
                Asked::End => break,
                Asked::Reload => reload::reload(server),
            },
            () = watcher.changed() => reload::reload(server),
            _ = beat.tick() => if !engine.is_alive() { break },
        }
    }
    drop(listener);
    end(server, engine, connections, &mut signals).await
}

/// What runs may end; what waits is sent away.
async fn end(server: &Server, engine: &Engine, connections: Connections, signals: &mut Signals) -> anyhow::Result<()> {
    let limit = server.limits.shutdown_timeout;
    server.queue.close(Instant::now() + limit);
    tracing::info!("shutting down");
    let done = async {
        while engine.is_alive() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let end = async { while signals.next().await != Asked::End {} };
    tokio::select! {
        () = done => {}
        // A second signal, or a decode that takes longer than the limit, is not waited for.
        () = tokio::time::sleep(limit + GRACE) => abort(server),
        () = end => abort(server),
    }
    // A decode ends soon after it was interrupted. An engine that is stuck elsewhere has no answers to wait for.
    let ends = async {
        while engine.is_alive() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(LAST_WAIT, ends).await.is_ok() {
        let _ = tokio::time::timeout(GOODBYE, connections.shutdown()).await;
    }
    Ok(())
}

fn abort(server: &Server) {
    server.queue.close(Instant::now());
    interrupt_flag().store(true, std::sync::atomic::Ordering::Relaxed);
}
