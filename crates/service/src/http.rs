//! Serving HTTP until shutdown, and then to the end of the requests in progress.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

/// Serves `routes` on `listener`.
pub fn serve(listener: TcpListener, routes: Router, shutdown: &Shutdown) {
    // Without it, small answers wait 40 ms for the client's delayed ACK.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays slow");
        }
    });
    let token = shutdown.token();
    shutdown.spawn(async move {
        let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, routes).with_graceful_shutdown(token.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "a listener ended");
        }
    });
}
