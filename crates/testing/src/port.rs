//! Ports nobody listens on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A local address that was free a moment ago. Servers that can take port 0 should: another process may be quicker.
///
/// # Panics
///
/// When this machine has no free port at all.
pub fn free() -> SocketAddr {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback interface");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}
