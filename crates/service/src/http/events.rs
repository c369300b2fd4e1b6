//! Streams of server-sent events, taken out of what serves requests. That keeps 16 kB and more for the requests to come of a connection, of
//! which one that is sent events has none, and there may be tens of thousands. So it is given up as soon as the head of such an
//! answer is written; what is left is the socket and the stream. HTTP/1.1 only: streams of HTTP/2 share a connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutWriter;
use tower::ServiceExt;

use super::Routes;
use crate::shutdown::Shutdown;

/// A connection whose client must read what it is sent.
pub(super) struct Socket {
    stream: Pin<Box<TimeoutWriter<TcpStream>>>,
    /// Whether the client has yet to take what was written last.
    full: Arc<AtomicBool>,
}

impl Socket {
    /// Ends when its client takes nothing for `unread`.
    pub(super) fn new(stream: TcpStream, unread: Duration) -> Self {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(unread));
        Self {
            stream: Box::pin(stream),
            full: Arc::default(),
        }
    }

    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        self.full.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write_vectored(cx, bytes);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}

/// The events of a connection's answer, once it has some.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<(Option<Body>, bool)>>);

impl Taken {
    /// Takes the body of an answer that is events, and leaves one that says when it is asked for: the head is before it.
    fn from(&self, request: (&Method, Version), response: Response<Body>) -> Response<Body> {
        let events = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/event-stream"));
        if !events || request != (&Method::GET, Version::HTTP_11) {
            return response;
        }
        let (mut head, body) = response.into_parts();
        // No other answer follows.
        let close = HeaderValue::from_static("close");
        head.headers.insert(CONNECTION, close);
        self.lock().0 = Some(body);
        Response::from_parts(head, Body::new(self.clone()))
    }

    /// The events, when their turn has come.
    fn begun(&self) -> Option<Body> {
        let mut taken = self.lock();
        if taken.1 { taken.0.take() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Body>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.lock().1 = true;
        Poll::Pending
    }
}

/// Serves the requests of a connection, until its end or until an answer is events.
pub(super) async fn serve(
    builder: &http1::Builder,
    socket: Socket,
    routes: Routes,
    ends: &Shutdown,
) -> hyper::Result<Option<Events>> {
    let (taken, full) = (Taken::default(), Arc::clone(&socket.full));
    let answers = taken.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (routes, taken) = (routes.clone(), answers.clone());
        let (method, version) = (request.method().clone(), request.version());
        Box::pin(async move {
            let response = routes.oneshot(request).await?;
            Ok::<_, Infallible>(taken.from((&method, version), response))
        })
    });
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut ending = pin!(ends.cancelled());
    let mut told = false;
    let events = poll_fn(|cx| {
        if !told && ending.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
            Poll::Pending if full.load(Ordering::Relaxed) => Poll::Pending,
            Poll::Pending => taken
                .begun()
                .map_or(Poll::Pending, |body| Poll::Ready(Ok(Some(body)))),
        }
    });
    Ok(events.await?.map(|body| Events {
        socket: connection.into_parts().io.into_inner(),
        body,
    }))
}

/// A client that is sent events.
pub(super) struct Events {
    socket: Socket,
    body: Body,
}

impl Events {
    /// Sends them until the client goes away or they end, and soon after the end was asked for.
    pub(super) async fn send(mut self, ends: Shutdown) {
        let late = async {
            ends.cancelled().await;
            tokio::time::sleep(LATE).await;
        };
        tokio::select! {
            sent = self.send_all() => if let Err(error) = sent {
                tracing::debug!(%error, "a stream of events ended");
            },
            () = late => tracing::debug!("a client did not read the end of its events"),
        }
    }

    async fn send_all(&mut self) -> io::Result<()> {
        let (mut buffer, mut ignored) = ([0; 64], 0);
        loop {
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                read = self.socket.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    // It was told that no other answer follows.
                    read if ignored < IGNORED => {
                        ignored += read;
                        continue;
                    }
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                },
            };
            // One that breaks off has no last chunk: a client can tell that.
            let Some(frame) = frame.transpose().map_err(io::Error::other)? else {
                self.socket.write_all(LAST_CHUNK).await?;
                return self.socket.shutdown().await;
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.socket.write_all(&chunk(&data)).await?;
            }
        }
    }
}

/// How long a client has to read the end.
const LATE: Duration = Duration::from_secs(5);
/// So many bytes are passed over that a client sends all the same: requests that it did not wait with.
const IGNORED: usize = 4_096;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A chunk of a body without a known length (RFC 9112, 7.1).
fn chunk(data: &[u8]) -> Vec<u8> {
    let length = format!("{:x}\r\n", data.len());
    [length.as_bytes(), data, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use futures::stream::{self, StreamExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::http;

    const EVENTS: (axum::http::HeaderName, &str) = (CONTENT_TYPE, "text/event-stream");

    /// A client of `routes` that has sent `asks`.
    async fn client(routes: Router, asks: &str, shutdown: &Shutdown) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        http::serve(listener, routes, &[], shutdown);
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(asks.as_bytes()).await.unwrap();
        client
    }

    /// What the client is sent until the end.
    async fn all(mut client: TcpStream) -> String {
        let mut all = String::new();
        let read = client.read_to_string(&mut all);
        let read = tokio::time::timeout(Duration::from_secs(20), read);
        read.await.expect("it ends").unwrap();
        all
    }

    fn three() -> Router {
        let three = || stream::iter(["one", "", "twelve bytes"]).map(Ok::<_, io::Error>);
        let events = async move || ([EVENTS], Body::from_stream(three()));
        let begun = async move || {
            let broken = stream::iter([Err(io::ErrorKind::Other.into())]);
            ([EVENTS], Body::from_stream(three().chain(broken)))
        };
        let other = async || "other";
        let routes = Router::new().route("/", get(events));
        routes
            .route("/begun", get(begun))
            .route("/other", get(other))
    }

    #[tokio::test]
    async fn events_come_in_chunks_and_close_the_connection() {
        let shutdown = Shutdown::new();
        let asks = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let chunks = "\r\n\r\n3\r\none\r\nc\r\ntwelve bytes\r\n";
        // What is asked for behind events is not answered, and another answer before them is.
        let both = asks("/other") + &asks("/") + &asks("/other");
        let said = all(client(three(), &both, &shutdown).await).await;
        assert!(said.contains("connection: close\r\n"), "{said}");
        assert!(said.contains("transfer-encoding: chunked\r\n"), "{said}");
        assert_eq!(said.matches("other").count(), 1, "{said}");
        assert!(said.ends_with(&format!("{chunks}0\r\n\r\n")), "{said}");
        // One that breaks off has no end.
        let said = all(client(three(), &asks("/begun"), &shutdown).await).await;
        assert!(said.ends_with(chunks), "{said}");
        shutdown.cancel();
    }

    #[tokio::test]
    async fn who_asks_in_another_way_is_served_as_always() {
        let shutdown = Shutdown::new();
        let old = "GET / HTTP/1.0\r\nhost: a\r\n\r\n";
        let said = all(client(three(), old, &shutdown).await).await;
        assert!(said.ends_with("\r\n\r\nonetwelve bytes"), "{said}");
        let head = "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let said = all(client(three(), head, &shutdown).await).await;
        assert!(said.ends_with("\r\n\r\n"), "{said}");
        shutdown.cancel();
    }

    #[tokio::test]
    async fn events_end_with_their_client() {
        let (shutdown, (tell, mut told)) = (Shutdown::new(), mpsc::channel::<()>(1));
        let waiting = async move || {
            let events = stream::once(async { Ok::<_, io::Error>("now") });
            let tell = tell.clone();
            let later = stream::once(async move {
                let _told_when_dropped = tell;
                std::future::pending().await
            });
            ([EVENTS], Body::from_stream(events.chain(later)))
        };
        let routes = Router::new().route("/", get(waiting));
        let mut client = client(routes, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", &shutdown).await;
        let mut said = vec![];
        while !said.ends_with(b"3\r\nnow\r\n") {
            client.read_buf(&mut said).await.unwrap();
        }
        drop(client);
        shutdown.cancel();
        // The router and its handler go with the listener; what is left is the stream's own.
        let gone = tokio::time::timeout(Duration::from_secs(20), told.recv());
        assert_eq!(gone.await.expect("it is dropped"), None);
    }
}
