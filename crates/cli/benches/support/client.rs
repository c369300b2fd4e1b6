//! A client that costs little: it writes requests that are ready and looks at no more of an answer than its head.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take; the API itself gives up after 30 seconds.
const LIMIT: Duration = Duration::from_secs(40);
const ANSWER: usize = 16 * 1024;

/// A connection that is kept.
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let answer = Vec::with_capacity(ANSWER);
        Ok(Self { stream, answer })
    }

    /// The status of the answer to `request`, once all of it is there.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        timeout(LIMIT, self.asked(request)).await?
    }

    async fn asked(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, whole)) = head(&self.answer)?
                && self.answer.len() >= whole
            {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer, and its length with the head; none before the head is whole.
fn head(answer: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse::<usize>().ok());
    match (status, length) {
        (Some(status), Some(length)) => Ok(Some((status, end + 4 + length))),
        (Some(204), None) => Ok(Some((204, end + 4))),
        _ => Err(Error::other(head)),
    }
}

/// A request without a body; nobody's without a token.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    let who = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let who = who.unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n{who}\r\n").into_bytes()
}
