//! Serving HTTP until shutdown, and then to the end of the requests in progress.

use axum::Router;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

/// Serves `routes` on `listener`.
pub fn serve(listener: TcpListener, routes: Router, shutdown: &Shutdown) {
    let token = shutdown.token();
    shutdown.spawn(async move {
        let server = axum::serve(listener, routes).with_graceful_shutdown(token.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "a listener ended");
        }
    });
}
