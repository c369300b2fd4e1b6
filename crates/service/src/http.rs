//! Serving HTTP until shutdown, and then to the end of the requests in progress. What a client may cost before a request of its is
//! whole is limited here: time for its headers, their size and number, streams of a connection, connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

use crate::shutdown::Shutdown;

/// How long a client may take to send the headers of a request, and a connection may be idle.
const HEADERS: Duration = Duration::from_secs(30);
/// The most headers that a request may have, and the most bytes in all of them and its line.
const HEADERS_MAX: usize = 100;
const HEAD_MAX: usize = 64 * 1024;
/// Requests of one connection of HTTP/2 at once.
const STREAMS: u32 = 128;
/// How often a connection of HTTP/2 is asked whether it is still there, and how long it has to answer.
const ASKED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));
/// How HTTP/2 begins (RFC 9113, 3.4), and how often to see whether more of it has come.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PEEK: Duration = Duration::from_millis(20);
/// Connections at once; others wait to be taken in.
const CONNECTIONS: usize = 50_000;
/// How long to wait when no connection can be taken in: this process has too many files open.
const FULL: Duration = Duration::from_millis(200);

/// Serves `routes` on `listener`.
pub fn serve(listener: TcpListener, routes: Router, shutdown: &Shutdown) {
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        let (builder, open) = (builder(), GracefulShutdown::new());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let taken = tokio::select! {
                taken = take(&listener, &places) => taken,
                () = ending.cancelled() => break,
            };
            let Some((socket, peer, place)) = taken else {
                continue;
            };
            let (builder, open, ends) = (builder.clone(), open.watcher(), ending.clone());
            let routes = routes_for(&routes, peer);
            ending.spawn(async move {
                let spoke = tokio::select! {
                    spoke = tokio::time::timeout(HEADERS, speaks(&socket)) => spoke.unwrap_or(false),
                    () = ends.cancelled() => false,
                };
                if spoke {
                    one(builder, socket, routes, open).await;
                }
                drop(place);
            });
        }
        // Refused from now on, and not left waiting.
        drop(listener);
        open.shutdown().await;
    });
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(ASKED.0)
        .keep_alive_timeout(ASKED.1)
        .enable_connect_protocol();
    builder
}

async fn take(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => Some((socket, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection was not taken in");
            tokio::time::sleep(FULL).await;
            None
        }
    }
}

/// Waits until the client shows which HTTP it speaks: what serves it would wait for ever. False: it has gone.
async fn speaks(socket: &TcpStream) -> bool {
    let mut first = [0; PREFACE.len()];
    loop {
        match socket.peek(&mut first).await {
            Ok(0) | Err(_) => return false,
            Ok(read) if read < PREFACE.len() && PREFACE.starts_with(&first[..read]) => {
                tokio::time::sleep(PEEK).await;
            }
            Ok(_) => return true,
        }
    }
}

type Routes = axum::middleware::AddExtension<Router, ConnectInfo<SocketAddr>>;

fn routes_for(routes: &Router, peer: SocketAddr) -> Routes {
    axum::Extension(ConnectInfo(peer)).layer(routes.clone())
}

async fn one(builder: Builder<TokioExecutor>, socket: TcpStream, routes: Routes, open: Watcher) {
    // Without it, small answers wait 40 ms for the client's delayed ACK.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow");
    }
    let service = TowerToHyperService::new(routes);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
    if let Err(error) = open.watch(connection.into_owned()).await {
        tracing::debug!(%error, "a connection ended");
    }
}
