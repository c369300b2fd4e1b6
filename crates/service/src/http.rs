//! Serving HTTP until shutdown, and then to the end of the requests in progress. What a client may cost before a request of its is
//! whole is limited here: time for its headers, their size and number, streams of a connection, connections; and how long it may
//! read nothing of what it is sent.

mod events;
mod streams;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::slots::{Slot, Slots};

/// How long a client may take to send the headers of a request, and a connection may be idle.
const HEADERS: Duration = Duration::from_secs(30);
/// The most headers that a request may have, and the most bytes in all of them and its line.
const HEADERS_MAX: usize = 100;
const HEAD_MAX: usize = 64 * 1024;
/// Requests of one connection of HTTP/2 at once.
const STREAMS: u32 = 128;
/// How often a connection of HTTP/2 is asked whether it is still there, and how long it has to answer.
const ASKED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));
/// How long a client may take nothing of what it is sent. Who does not read at all would keep what its answer holds for ever.
const UNREAD: Duration = Duration::from_mins(1);
/// How long a connection of HTTP/2 takes requests: its client may hold answers that it does not take as long as it has others under way.
const AGE: Duration = Duration::from_mins(10);
/// How HTTP/2 begins (RFC 9113, 3.4), and how often to see whether more of it has come: at first, and later.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_LENGTH: usize = PREFACE.len();
const PEEK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Connections at once; others wait to be taken in. Fewer where the process may not open so many files, of which some are for others.
const CONNECTIONS: usize = 50_000;
const OTHER_FILES: u64 = 500;
/// One client has so many at most, that part of all; more are closed. Proxies that are trusted, and this machine, are nobody's client.
const OF_ONE: usize = 8;
/// How long to wait when no connection can be taken in: this process has too many files open.
const FULL: Duration = Duration::from_millis(200);

/// Serves `routes` on `listener`, to clients and to `proxies`, which speak for many.
pub fn serve(listener: TcpListener, routes: Router, proxies: &[IpNet], shutdown: &Shutdown) {
    let proxies = proxies.to_vec();
    let one = move |address: IpAddr| {
        let is_proxy = address.is_loopback() || proxies.iter().any(|net| net.contains(&address));
        (!is_proxy).then(|| network(address))
    };
    let all = connections();
    let places = Places {
        all: Arc::new(Semaphore::new(all)),
        each: Slots::new(all, all / OF_ONE),
        one: Box::new(one),
    };
    serve_within(listener, routes, places, (HEADERS, UNREAD), shutdown);
}

/// What one customer of a network has, as far as anybody can tell: of IPv6 at least the network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Room for connections.
struct Places {
    all: Arc<Semaphore>,
    each: Slots<IpAddr>,
    /// Whose connection it is, if it is one client's.
    one: Box<dyn Fn(IpAddr) -> Option<IpAddr> + Send + Sync>,
}

/// A connection's room.
type Place = (OwnedSemaphorePermit, Option<Slot<IpAddr>>);

impl Places {
    /// The next connection; none when it could not be taken in.
    async fn take(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, Place)> {
        let place = Arc::clone(&self.all).acquire_owned().await.ok()?;
        let (socket, peer) = match listener.accept().await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken in");
                tokio::time::sleep(FULL).await;
                return None;
            }
        };
        let one = (self.one)(peer.ip().to_canonical());
        let slot = one.map(|one| self.each.take(one)).transpose().ok()?;
        Some((socket, peer, (place, slot)))
    }
}

/// The same in these places, for clients that ask for nothing so long, and that take nothing so long.
fn serve_within(
    listener: TcpListener,
    routes: Router,
    places: Places,
    (idle, unread): (Duration, Duration),
    shutdown: &Shutdown,
) {
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        loop {
            let taken = tokio::select! {
                taken = places.take(&listener) => taken,
                () = ending.cancelled() => break,
            };
            let Some((socket, peer, place)) = taken else {
                continue;
            };
            let (routes, ends) = (routes_for(&routes, peer), ending.clone());
            ending.spawn(async move {
                let speaks = tokio::select! {
                    speaks = tokio::time::timeout(HEADERS, speaks(&socket)) => speaks.unwrap_or(None),
                    () = ends.cancelled() => None,
                };
                // Without it, small answers wait 40 ms for the client's delayed ACK.
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "a connection stays slow");
                }
                let socket = events::Socket::new(socket, unread);
                match speaks {
                    Some(Http::One) => one(socket, routes, ends, place).await,
                    Some(Http::Two) => two(socket, routes, (idle, unread), &ends).await,
                    None => {}
                }
            });
        }
        // Refused from now on, and not left waiting.
        drop(listener);
    });
}

/// How many connections there may be, once as many files may be open as this process can have.
fn connections() -> usize {
    let mut files = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        ..files
    };
    match setrlimit(Resource::Nofile, all) {
        Ok(()) => files = all,
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
    let Some(files) = files.current else {
        return CONNECTIONS;
    };
    let files = files.saturating_sub(OTHER_FILES).max(files / 2);
    usize::try_from(files).map_or(CONNECTIONS, |files| files.min(CONNECTIONS))
}

/// What a client speaks.
enum Http {
    /// HTTP/1.1, or what it grew out of.
    One,
    /// HTTP/2.
    Two,
}

/// Waits until the client shows which HTTP it speaks: what serves it would wait for ever. None: it has gone.
async fn speaks(socket: &TcpStream) -> Option<Http> {
    let mut first = [0; PREFACE.len()];
    let mut more = Backoff::new(PEEK.0, PEEK.1);
    loop {
        match socket.peek(&mut first).await {
            Ok(0) | Err(_) => return None,
            Ok(PREFACE_LENGTH) if first == *PREFACE => return Some(Http::Two),
            Ok(read) if PREFACE.starts_with(&first[..read]) => {
                tokio::time::sleep(more.next_wait()).await;
            }
            Ok(_) => return Some(Http::One),
        }
    }
}

type Routes = axum::middleware::AddExtension<Router, ConnectInfo<SocketAddr>>;

fn routes_for(routes: &Router, peer: SocketAddr) -> Routes {
    axum::Extension(ConnectInfo(peer)).layer(routes.clone())
}

/// Serves a client that speaks HTTP/1.1; once it is sent events, nothing but those.
async fn one(socket: events::Socket, routes: Routes, ends: Shutdown, place: Place) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    match events::serve(&builder, socket, routes, &ends).await {
        Ok(None) => {}
        Ok(Some(stream)) => {
            // A task of its own: this one keeps the room that requests took.
            let end = ends.clone();
            ends.spawn(async move {
                stream.send(end).await;
                drop(place);
            });
        }
        Err(error) => tracing::debug!(%error, "a connection ended"),
    }
}

/// Serves a client that speaks HTTP/2.
async fn two(
    socket: events::Socket,
    routes: Routes,
    limits: (Duration, Duration),
    ends: &Shutdown,
) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(ASKED.0)
        .keep_alive_timeout(ASKED.1)
        .enable_connect_protocol();
    if let Err(error) = streams::serve(&builder, socket, routes, limits, ends).await {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
    use tokio::net::TcpSocket;
    use tokio::sync::mpsc;
    use tokio_util::io::ReaderStream;

    use super::*;

    /// An answer without end, which tells when it is dropped.
    struct Endless(mpsc::Sender<()>);

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            buffer.initialize_unfilled().fill(7);
            buffer.set_filled(buffer.capacity());
            Poll::Ready(Ok(()))
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            self.0.try_send(()).unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_ends() {
        let (shutdown, (tell, mut ended)) = (Shutdown::new(), mpsc::channel(1));
        let answer = async move || Body::from_stream(ReaderStream::new(Endless(tell.clone())));
        let routes = Router::new().route("/", get(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let limits = (HEADERS, Duration::from_millis(200));
        serve_within(listener, routes, places(2, 2), limits, &shutdown);
        let mut socket = TcpStream::connect(at).await.unwrap();
        let asks = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        socket.write_all(asks).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), ended.recv());
        assert_eq!(ended.await.expect("it ends"), Some(()));
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_client_of_http2_that_asks_for_nothing_is_gone() {
        let shutdown = Shutdown::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let limits = (Duration::from_millis(200), Duration::from_millis(200));
        serve_within(listener, Router::new(), places(2, 2), limits, &shutdown);
        let mut socket = TcpStream::connect(at).await.unwrap();
        // Its preface, and settings that set nothing.
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        socket
            .write_all(&[PREFACE, &settings].concat())
            .await
            .unwrap();
        let mut said = vec![];
        let read = socket.read_to_end(&mut said);
        let read = tokio::time::timeout(Duration::from_secs(20), read);
        read.await.expect("it ends").unwrap();
        shutdown.cancel();
    }

    fn places(all: usize, each: usize) -> Places {
        Places {
            all: Arc::new(Semaphore::new(all)),
            each: Slots::new(all, each),
            one: Box::new(|address| Some(network(address))),
        }
    }

    #[tokio::test]
    async fn one_client_does_not_keep_all_others_out() {
        let shutdown = Shutdown::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "served"));
        serve_within(listener, routes, places(4, 2), (HEADERS, UNREAD), &shutdown);
        let from = async |address: &str| {
            let socket = TcpSocket::new_v4().unwrap();
            socket
                .bind(format!("{address}:0").parse().unwrap())
                .unwrap();
            socket.connect(at).await.unwrap()
        };
        let ask = async |mut socket: TcpStream| {
            let asks = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let mut said = String::new();
            // Closed before it was read is a reset.
            let asked = async {
                socket.write_all(asks).await?;
                socket.read_to_string(&mut said).await
            };
            let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
            asked.expect("an answer, or an end").ok();
            said
        };
        let silent = [from("127.0.0.1").await, from("127.0.0.1").await];
        assert_eq!(ask(from("127.0.0.1").await).await, "");
        assert!(ask(from("127.0.0.2").await).await.ends_with("served"));
        drop(silent);
        let mut again = String::new();
        while !again.ends_with("served") {
            again = ask(from("127.0.0.1").await).await;
        }
        shutdown.cancel();
    }

    #[test]
    fn who_has_many_addresses_is_one() {
        let of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:198.51.100.1"), "198.51.100.1");
    }
}
