//! The streams of a connection of HTTP/2, whose client may read all that the socket has and yet take nothing: it grants no room in a
//! stream, or opens none.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::Request;
use futures::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::events::Socket;
use super::{AGE, Routes};
use crate::shutdown::Shutdown;

/// Serves the requests of a connection until its end, or until it has had none for `idle`, or is old. Answers that are made while they
/// are sent end when they are not taken for `unread`.
pub(super) async fn serve(
    builder: &http2::Builder<TokioExecutor>,
    socket: Socket,
    routes: Routes,
    (idle, unread): (Duration, Duration),
    ends: &Shutdown,
) -> hyper::Result<()> {
    let (busy, end) = (Arc::new(()), ends.clone());
    let working = Arc::clone(&busy);
    let service = service_fn(move |request: Request<Incoming>| {
        let (routes, end, working) = (routes.clone(), end.clone(), Arc::clone(&working));
        Box::pin(async move {
            let response = routes.oneshot(request).await?;
            let taken = |body| while_taken(body, unread, working, &end);
            Ok::<_, Infallible>(response.map(taken))
        })
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = idle_for(idle, &busy) => {}
        () = tokio::time::sleep(AGE) => {}
        () = ends.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // What is under way ends, or is not taken.
    tokio::select! {
        ended = &mut connection => ended,
        () = idle_for(unread, &busy) => Ok(()),
    }
}

/// Resolves when nothing was under way, seen twice, half of `wait` apart.
async fn idle_for(wait: Duration, busy: &Arc<()>) {
    let mut silent = false;
    loop {
        tokio::time::sleep(wait / 2).await;
        // The service has one, and its connection.
        let now = Arc::strong_count(busy) <= 2;
        if silent && now {
            return;
        }
        silent = now;
    }
}

/// A body that is made while it is sent ends when its client does not take the next of it for `unread`; `working` is held as long.
fn while_taken(body: Body, unread: Duration, working: Arc<()>, shutdown: &Shutdown) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let (give, mut take) = mpsc::channel(1);
    shutdown.spawn(async move {
        let mut pieces = body.into_data_stream();
        loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                () = give.closed() => None,
            };
            let Some(piece) = piece else { break };
            if give.send_timeout(piece, unread).await.is_err() {
                break;
            }
        }
        drop(working);
    });
    Body::from_stream(stream::poll_fn(move |cx| take.poll_recv(cx)))
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_ends() {
        let (tell, mut told) = mpsc::channel::<()>(1);
        let endless = stream::repeat_with(move || {
            let _told_when_dropped = &tell;
            Ok::<_, Infallible>(Bytes::from_static(b"a line"))
        });
        let (unread, working) = (Duration::from_millis(100), Arc::new(()));
        let body = Body::from_stream(endless);
        let body = while_taken(body, unread, Arc::clone(&working), &Shutdown::new());
        let mut pieces = body.into_data_stream();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "a line");
        let ended = tokio::time::timeout(Duration::from_secs(20), told.recv());
        assert_eq!(ended.await.expect("it ends"), None);
    }
}
