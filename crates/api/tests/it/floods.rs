//! Clients that send without end: bodies that are too large, and frames of HTTP/2 that cost a server more than its client.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::app::{App, SOON};

/// What a flood would send in all.
const FLOOD: usize = 100_000_000;
/// Of which a server that has had enough has taken this much at most: sockets hold some.
const TAKEN: usize = 40_000_000;
/// Who takes nothing for so long has stopped.
const STOPPED: Duration = Duration::from_secs(3);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames (RFC 9113, 6).
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOODBYE: u8 = 7;
const CONTINUATION: u8 = 9;
/// What a goodbye says to a flood: `ENHANCE_YOUR_CALM`.
const CALM: u8 = 11;

async fn connect(app: &App) -> TcpStream {
    let address = app.url.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

/// That others are served.
async fn assert_serves(app: &App) {
    let ask = app.user("ana").request(Method::GET, "/v1/feed").send();
    let answer = tokio::time::timeout(SOON, ask).await;
    let answer = answer.expect("an answer in time").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

/// Sends more and more until the server ends it: how much was sent, and what the server said.
async fn floods(
    mut socket: TcpStream,
    what: &str,
    mut more: impl FnMut() -> Vec<u8>,
) -> (usize, Vec<u8>) {
    let (mut reads, mut writes) = socket.split();
    let (mut sent, mut said) = (0, vec![]);
    let write = async {
        while sent < FLOOD {
            let some = more();
            if writes.write_all(&some).await.is_err() {
                return;
            }
            sent += some.len();
        }
    };
    // Who is cut off may be told so by an error.
    let read = async { reads.read_to_end(&mut said).await.ok() };
    let ended = tokio::time::timeout(SOON * 2, async { tokio::join!(write, read) });
    assert!(ended.await.is_ok(), "{what}: it goes on");
    (sent, said)
}

#[tokio::test]
async fn a_body_that_is_much_too_large_is_refused_before_it_has_come() {
    let app = App::start_with(&["--storage-notice-secret", "what the queue and we know"]).await;
    let token = format!("authorization: Bearer {}\r\n", app.user("ana").token);
    let (sized, chunked) = (
        format!("content-length: {FLOOD}\r\n"),
        "transfer-encoding: chunked\r\n",
    );
    for ask in [
        "POST /v1/posts",
        "POST /v1/auth/login",
        "POST /v1/webhooks/storage/hmac",
        // Nobody asked for a body.
        "GET /v1/feed",
    ] {
        for length in [&*sized, chunked] {
            let head = format!(
                "{ask} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{token}{length}\r\n"
            );
            let piece = " ".repeat(1 << 16);
            let piece = if length == chunked {
                format!("{:x}\r\n{piece}\r\n", piece.len())
            } else {
                piece
            };
            let mut socket = connect(&app).await;
            let begun = head + &piece;
            socket.write_all(begun.as_bytes()).await.unwrap();
            assert_serves(&app).await;
            let (sent, said) = floods(socket, ask, || piece.clone().into_bytes()).await;
            let said = String::from_utf8_lossy(&said);
            assert!(said.starts_with("HTTP/1.1 413 "), "{ask}, {length}: {said}");
            assert!(sent < TAKEN, "{ask}, {length}: {sent} bytes were taken");
        }
    }
    assert_serves(&app).await;
    assert_eq!(app.head().await, 0);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// The header fields of a request, nothing of them compressed (RFC 7541).
fn fields() -> Vec<u8> {
    let field = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [&[name, length], value.as_bytes()].concat()
    };
    let (get, http) = (0x82, 0x86);
    let (path, authority) = (field(4, "/v1/feed"), field(1, "localhost"));
    [vec![get, http], path, authority].concat()
}

/// Asks for something, whole: the ends of the stream's sending and of its headers.
fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, 1 | 4, stream, &fields())
}

/// The whole frames that the server has sent: of what kind, and what is in them.
fn frames(mut said: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = vec![];
    while let Some((&[a, b, c, kind, ..], rest)) = said.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        frames.push((kind, payload));
        said = rest;
    }
    frames
}

/// A connection of HTTP/2 that has begun.
async fn begun(app: &App) -> TcpStream {
    let mut socket = connect(app).await;
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    socket.write_all(&begin).await.unwrap();
    socket
}

#[tokio::test]
async fn who_floods_by_http2_is_cut_off() {
    let app = App::start().await;
    // One who does not is served.
    let (mut socket, mut said) = (begun(&app).await, vec![]);
    socket.write_all(&request(1)).await.unwrap();
    let answered = async {
        while !frames(&said).iter().any(|(kind, _)| *kind == HEADERS) {
            assert_ne!(socket.read_buf(&mut said).await.unwrap(), 0, "{said:?}");
        }
    };
    let answered = tokio::time::timeout(SOON, answered).await;
    answered.expect("an answer");

    let mut next = 1;
    let resets = || {
        let each = |_| {
            let stream = next;
            next += 2;
            // It is not wanted any more.
            [request(stream), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
        };
        (0..500).flat_map(each).collect::<Vec<u8>>()
    };
    let (sent, said) = floods(begun(&app).await, "resets", resets).await;
    assert!(sent < TAKEN, "{sent} bytes were taken");
    let said = frames(&said);
    let goodbye = said.iter().find(|(kind, _)| *kind == GOODBYE);
    let code = goodbye.and_then(|(_, why)| why.get(7).copied());
    assert_eq!(code, Some(CALM), "{said:?}");
    assert_serves(&app).await;

    // Headers that never end, of fields that are not kept.
    let mut socket = begun(&app).await;
    let open = frame(HEADERS, 1, 1, &fields());
    socket.write_all(&open).await.unwrap();
    let field = [&b"\0\x01x\x64"[..], &[b'y'; 100]].concat();
    let further = || frame(CONTINUATION, 0, 1, &field.repeat(150));
    let (sent, _) = floods(socket, "headers", further).await;
    assert!(sent < TAKEN, "{sent} bytes were taken");
    assert_serves(&app).await;
}

#[tokio::test]
async fn answers_that_a_client_of_http2_does_not_read_are_not_heaped_up() {
    let app = App::start().await;
    for (what, asks) in [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
    ] {
        // Its own socket holds little.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let at = app.url.trim_start_matches("http://").parse().unwrap();
        let mut socket = socket.connect(at).await.unwrap();
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        socket.write_all(&begin).await.unwrap();
        let (many, mut sent) = (asks.repeat(1_000), 0);
        let flood = async {
            loop {
                let taken = tokio::time::timeout(STOPPED, socket.write_all(&many)).await;
                if !matches!(taken, Ok(Ok(()))) {
                    break;
                }
                sent += many.len();
                assert!(sent < TAKEN, "{what}: more and more is taken");
            }
        };
        let others = async {
            for _ in 0..10 {
                assert_serves(&app).await;
            }
        };
        tokio::join!(flood, others);
        assert_serves(&app).await;
    }
}
