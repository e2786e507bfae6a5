//! Connections: accepted up to a bound, timed, and ended in good order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::access::Peer;
use super::engine::Engine;
use super::options::Options;
use super::reload::{self, Watcher};
use super::signals::{Asked, Signals};
use super::state::Server;
use crate::engine::llama::interrupt_flag;

/// Told where the server listens.
pub type Listening<'a> = &'a mut dyn FnMut(SocketAddr);

/// How long connections have to close after the last text.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT, then lets what runs come to its end within the limit. SIGHUP, and a saved configuration, change
/// the defaults of new requests.
///
/// # Errors
///
/// When the address is taken, or the engine has ended by itself.
pub fn serve(server: &Arc<Server>, engine: Engine, options: &Options, listening: Listening<'_>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(run(server, &engine, options, listening));
    // Also after an error: what runs would keep the engine, and the engine the process.
    server.queue.close(Instant::now());
    let ended = engine.join();
    runtime.shutdown_timeout(Duration::from_secs(1));
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
        () = tokio::time::sleep(limit + Duration::from_millis(500)) => abort(server),
        () = end => abort(server),
    }
    let _ = tokio::time::timeout(GOODBYE, connections.graceful.shutdown()).await;
    Ok(())
}

fn abort(server: &Server) {
    server.queue.close(Instant::now());
    interrupt_flag().store(true, std::sync::atomic::Ordering::Relaxed);
}

struct Connections {
    app: axum::Router,
    graceful: GracefulShutdown,
    room: Arc<Semaphore>,
    idle_timeout: Duration,
}

impl Connections {
    fn new(app: axum::Router, options: &Options) -> Self {
        let room = Arc::new(Semaphore::new(options.limits.connections));
        Self { app, graceful: GracefulShutdown::new(), room, idle_timeout: options.limits.idle_timeout }
    }

    /// Serves a connection on a task of its own. One too many is closed at once.
    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections");
            return;
        };
        // Tokens are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.idle_timeout));
        let app = self.app.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer.ip()));
            app.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle_timeout)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
}
