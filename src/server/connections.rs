//! Connections: as many as there is room for. Where there is none, the one that keeps the server waiting makes room.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::Request;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::access::Peer;
use super::options::Options;

/// All open connections.
pub struct Connections {
    app: axum::Router,
    graceful: GracefulShutdown,
    table: Arc<Table>,
    idle_timeout: Duration,
}

impl Connections {
    /// None yet.
    pub fn new(app: axum::Router, options: &Options) -> Self {
        let table = Arc::new(Table::new(options.limits.connections));
        Self { app, graceful: GracefulShutdown::new(), table, idle_timeout: options.limits.idle_timeout }
    }

    /// Serves a connection on a task of its own. Where there is no room, and none can be made, it is closed at once.
    pub fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = self.table.enter(peer.ip()) else {
            tracing::warn!(%peer, "too many connections");
            return;
        };
        // Tokens are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.idle_timeout));
        let (app, in_service) = (self.app.clone(), place.clone());
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(Peer(peer.ip()));
            request.extensions_mut().insert(in_service.clone());
            let (app, place) = (app.clone(), in_service.clone());
            async move {
                place.set_waiting(!request.body().is_end_stream());
                let answer = app.oneshot(request).await;
                answer.map(|answer| answer.map(|body| Answer { body, _served: Served(place) }))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle_timeout)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                },
                () = place.inner.leave.notified() => tracing::debug!(%peer, "a waiting connection made room"),
            }
        });
    }

    /// Lets the connections end what they are at.
    pub async fn shutdown(self) {
        self.graceful.shutdown().await;
    }
}

/// The body of an answer. While it is sent, the connection is at work.
struct Answer {
    body: axum::body::Body,
    _served: Served,
}

struct Served(Place);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.set_waiting(true);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Who is connected.
struct Table {
    max: usize,
    entries: Mutex<HashMap<u64, Entry>>,
}

struct Entry {
    peer: IpAddr,
    /// Since when the server waits for this client to send a request, or the rest of one.
    waiting_since: Option<Instant>,
    leave: Arc<Notify>,
}

/// A connection's place in the table. It is free when the last copy is dropped.
#[derive(Clone)]
pub struct Place {
    inner: Arc<Inner>,
}

struct Inner {
    table: Arc<Table>,
    id: u64,
    leave: Arc<Notify>,
}

impl Table {
    fn new(max: usize) -> Self {
        Self { max, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. Of those that keep the server waiting, one of the address with the most of them
    /// goes, and of these the one that has waited longest: however many connections a client opens, it cannot keep the
    /// others out.
    fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut entries = self.lock();
        if entries.len() >= self.max {
            let mut waiting: HashMap<IpAddr, usize> = HashMap::new();
            entries
                .values()
                .filter(|entry| entry.waiting_since.is_some())
                .for_each(|e| *waiting.entry(e.peer).or_default() += 1);
            let rank = |entry: &Entry| Some((waiting.get(&entry.peer)?, std::cmp::Reverse(entry.waiting_since?)));
            let (_, id) = entries.iter().filter_map(|(id, entry)| Some((rank(entry)?, *id))).max()?;
            entries.remove(&id)?.leave.notify_one();
        }
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let leave = Arc::new(Notify::new());
        entries.insert(id, Entry { peer, waiting_since: Some(Instant::now()), leave: Arc::clone(&leave) });
        Some(Place { inner: Arc::new(Inner { table: Arc::clone(self), id, leave }) })
    }
}

impl Place {
    /// Whether the server waits for the client now.
    pub fn set_waiting(&self, waits: bool) {
        if let Some(entry) = self.inner.table.lock().get_mut(&self.inner.id) {
            entry.waiting_since = waits.then(Instant::now);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn is_there(place: &Place) -> bool {
        place.inner.table.lock().contains_key(&place.inner.id)
    }

    #[test]
    fn the_longest_waiting_connection_of_the_busiest_address_makes_room() {
        let table = Arc::new(Table::new(4));
        let other = table.enter(address(1)).expect("room");
        let crowd: Vec<_> = (0..3).map(|_| table.enter(address(2)).expect("room")).collect();
        let late = table.enter(address(3)).expect("room is made");
        assert!(is_there(&other) && is_there(&late) && !is_there(&crowd[0]), "the first of the crowd has gone");
        crowd[1].set_waiting(false);
        crowd[2].set_waiting(false);
        other.set_waiting(false);
        let last = table.enter(address(2)).expect("room is made");
        assert!(!is_there(&late) && is_there(&last), "one that is at work does not go");
    }

    #[test]
    fn where_all_are_at_work_no_room_is_made_until_one_ends() {
        let table = Arc::new(Table::new(2));
        let places: Vec<_> = (0..2).map(|n| table.enter(address(n)).expect("room")).collect();
        places.iter().for_each(|place| place.set_waiting(false));
        assert!(table.enter(address(9)).is_none());
        drop(places);
        assert!(table.enter(address(9)).is_some());
    }
}
