//! The public listener.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt;
use service::shutdown::Shutdown;
use tokio::net::TcpListener;

/// Serves `router` on `address` until `shutdown`, letting open requests end, and returns the address that was bound.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    shutdown: &Shutdown,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    // Without it, small answers wait 40 ms for the client's delayed ACK.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays slow");
        }
    });
    let token = shutdown.token();
    shutdown.spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(token.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "the public listener ended");
        }
    });
    Ok(bound)
}
