//! Who is at the other end of the connection: its address, or what proxies that are trusted say of it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::state::ApiState;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    /// What is counted under it: of IPv6 the network of 64 bits, because that is what one customer gets.
    pub(crate) fn counted(self) -> String {
        match self.0.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Ipv6Addr::from(network).to_string()
            }
        }
    }

    /// The nearest address that no trusted proxy has: what is further away anybody may have written.
    fn of(near: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_proxy = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        let told = headers.get_all(FORWARDED_FOR).into_iter();
        let told: Vec<&str> = told
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        let mut address = near.to_canonical();
        for further in told.iter().rev() {
            if !is_proxy(address) {
                break;
            }
            let Ok(further) = further.trim().parse::<IpAddr>() else {
                break;
            };
            address = further.to_canonical();
        }
        Self(address)
    }
}

impl FromRequestParts<ApiState> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let near = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let near = near.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |near| near.0.ip());
        Ok(Self::of(
            near,
            &parts.headers,
            &state.config.trusted_proxies,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(near: &str, told: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for told in told {
            headers.append(FORWARDED_FOR, axum::http::HeaderValue::from_static(told));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        Peer::of(near.parse().unwrap(), &headers, &trusted).counted()
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
        assert_eq!(peer("::ffff:10.1.1.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(peer("2001:db8:1:2:3::4", &[]), "2001:db8:1:2::");
    }
}
