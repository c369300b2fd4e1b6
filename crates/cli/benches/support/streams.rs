//! Streams of news, thousands of them: a socket each, and little more.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::Builder;
use http::Request;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a stream may take to begin.
const LIMIT: Duration = Duration::from_mins(1);
const BUFFER: usize = 512;

/// An open stream.
pub(crate) struct Stream(BufReader<TcpStream>);

impl Stream {
    /// It, once the answer to `request` has begun.
    pub(crate) async fn open(address: SocketAddr, request: &[u8]) -> Self {
        let opened = timeout(LIMIT, async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut lines = BufReader::with_capacity(BUFFER, stream);
            let mut line = String::new();
            lines.read_line(&mut line).await.unwrap();
            assert!(line.starts_with("HTTP/1.1 200"), "{line}");
            while !line.trim_end().is_empty() {
                line.clear();
                lines.read_line(&mut line).await.unwrap();
            }
            Self(lines)
        });
        opened.await.expect("a stream begins in time")
    }

    /// When the next piece of news came; none at the end.
    pub(crate) async fn news(&mut self) -> Option<Instant> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).await.unwrap_or_default() == 0 {
                return None;
            }
            if line.starts_with("data:") {
                return Some(Instant::now());
            }
        }
    }
}

/// An open stream whose client takes not a byte of what it is told.
pub(crate) struct Deaf {
    _body: RecvStream,
    /// Ends with it.
    _connection: JoinSet<()>,
}

impl Deaf {
    /// It, once the answer has begun: heads are told whatever the window.
    pub(crate) async fn open(address: SocketAddr, path: &str, token: &str) -> Self {
        let opened = timeout(LIMIT, async {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut builder = Builder::new();
            builder.initial_window_size(0);
            let (mut requests, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            let mut running = JoinSet::new();
            // It ends with an error when nobody holds it any more.
            running.spawn(async move { drop(connection.await) });
            let request = Request::get(format!("http://{address}{path}"));
            let request = request.header("authorization", format!("Bearer {token}"));
            let request = request.body(()).unwrap();
            let (answer, _) = requests.send_request(request, true).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            Self {
                _body: answer.into_body(),
                _connection: running,
            }
        });
        opened.await.expect("a stream begins in time")
    }
}
