//! Streams of news, thousands of them: a socket each, and little more.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// How long a stream may take to begin.
const LIMIT: Duration = Duration::from_mins(1);
const BUFFER: usize = 512;

/// An open stream.
pub(crate) struct Stream(BufReader<TcpStream>);

impl Stream {
    /// It, once the answer to `request` has begun. `small`: with as little room as can be for what is not read yet.
    pub(crate) async fn open(address: SocketAddr, request: &[u8], small: bool) -> Self {
        let opened = timeout(LIMIT, async {
            let socket = TcpSocket::new_v4().unwrap();
            if small {
                socket.set_recv_buffer_size(1).unwrap();
            }
            let mut stream = socket.connect(address).await.unwrap();
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
