//! Who is at the other end of the connection: its address, or what proxies that are trusted say of it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{FORWARDED, HOST};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri};
use ipnet::IpNet;
use service::http::network;

use crate::state::ApiState;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    address: IpAddr,
    /// The host that it was sent to, and the port unless that goes without saying.
    pub(crate) host: Option<String>,
    /// Whether it has not left this machine.
    pub(crate) here: bool,
}

impl Peer {
    /// What is counted under it.
    pub(crate) fn counted(&self) -> String {
        network(self.address).to_string()
    }

    /// The nearest address that no trusted proxy has: what is further away anybody may have written.
    fn of(near: IpAddr, uri: &Uri, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_proxy = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        let told = headers.get_all(FORWARDED_FOR).into_iter();
        let told: Vec<&[u8]> = told
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .collect();
        let mut address = near.to_canonical();
        for further in told.iter().rev() {
            if !is_proxy(address) {
                break;
            }
            // What is no address hides all that is further away.
            let further = std::str::from_utf8(further).ok();
            let Some(further) = further.and_then(|further| further.trim().parse::<IpAddr>().ok())
            else {
                break;
            };
            address = further.to_canonical();
        }
        let near = near.to_canonical();
        let said = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let forwarded = said(FORWARDED_HOST).filter(|_| is_proxy(near));
        let host = forwarded
            .or_else(|| said(HOST))
            .or_else(|| uri.authority().map(Authority::as_str));
        let proxied = [FORWARDED_FOR, FORWARDED_HOST, FORWARDED]
            .into_iter()
            .any(|name| headers.contains_key(name));
        Self {
            address,
            host: host.map(str::to_owned),
            here: near.is_loopback() && !proxied && host.is_some_and(is_loopback),
        }
    }
}

/// Whether a host, with or without a port, is this machine by name.
fn is_loopback(host: &str) -> bool {
    let port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, after)| port(after));
    let name = name.map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

impl FromRequestParts<ApiState> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let near = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let near = near.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |near| near.0.ip());
        Ok(Self::of(
            near,
            &parts.uri,
            &parts.headers,
            &state.config.trusted_proxies,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(near: &str, told: &[&str]) -> String {
        let told: Vec<_> = told.iter().map(|told| told.as_bytes()).collect();
        peer_by(near, &told)
    }

    fn peer_by(near: &str, told: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for told in told {
            headers.append(
                FORWARDED_FOR,
                axum::http::HeaderValue::from_bytes(told).unwrap(),
            );
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        Peer::of(near.parse().unwrap(), &Uri::default(), &headers, &trusted).counted()
    }

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        assert_eq!(peer("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(peer("10.1.1.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            peer("10.1.1.1", &["192.0.2.7, 198.51.100.1", "10.2.2.2"]),
            "198.51.100.1"
        );
        assert_eq!(peer("10.1.1.1", &["not an address"]), "10.1.1.1");
        // Nor does what is no text hide what a proxy said after it, or bring what came before it nearer.
        let joined: &[&[u8]] = &[b"9.9.9.9", b"\xff, 198.51.100.1"];
        assert_eq!(peer_by("10.1.1.1", joined), "198.51.100.1");
        assert_eq!(peer_by("10.1.1.1", &[b"9.9.9.9", b"\xff"]), "10.1.1.1");
        assert_eq!(peer("::ffff:10.1.1.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(peer("2001:db8:1:2:3::4", &[]), "2001:db8:1:2::");
    }

    #[test]
    fn what_has_not_left_this_machine_is_known_and_not_believed() {
        let here = |near: &str, host: &'static str, more: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, axum::http::HeaderValue::from_static(host));
            if let Some(name) = more {
                headers.insert(
                    name,
                    axum::http::HeaderValue::from_static("app.example.org"),
                );
            }
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            Peer::of(near.parse().unwrap(), &Uri::default(), &headers, &trusted)
        };
        assert!(here("127.0.0.1", "localhost:8080", None).here);
        assert!(here("::1", "[::1]", None).here);
        assert!(!here("127.0.0.1", "app.example.org", None).here);
        assert!(!here("127.0.0.1", "127.0.0.1:8080", Some("x-forwarded-host")).here);
        assert!(!here("203.0.113.9", "localhost", None).here);
        let proxied = here("10.1.1.1", "127.0.0.1:8080", Some("x-forwarded-host"));
        assert_eq!(proxied.host.as_deref(), Some("app.example.org"));
        let lying = here("203.0.113.9", "api.example.org", Some("x-forwarded-host"));
        assert_eq!(lying.host.as_deref(), Some("api.example.org"));
    }
}
