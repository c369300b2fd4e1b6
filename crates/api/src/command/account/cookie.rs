//! The cookie that a session goes on with.

use axum::http::header::{CACHE_CONTROL, COOKIE, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// What a session goes on with is in this cookie.
const COOKIE_NAME: &str = "cinelog_refresh";
/// Where the cookie is sent to.
const COOKIE_PATH: &str = "/v1/auth";

impl ApiState {
    /// Refuses what a page of somebody else's sends with the user's cookie. Programs that are no browsers send no origin.
    pub(super) fn must_be_ours(&self, peer: &Peer, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let named = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        let own = named.is_some_and(|(_, named)| Some(named) == peer.host.as_deref());
        if own || self.config.cors_origins.contains(origin) {
            return Ok(());
        }
        Err(Kind::OriginForeign.into())
    }
}

/// The session's token that a browser sends.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
}

/// No script sees it, and no page elsewhere sends it; only on this machine itself may it go unencrypted.
pub(super) fn set_cookie(response: &mut Response, value: &str, seconds: i64, peer: &Peer) {
    let secure = if peer.here { "" } else { "; Secure" };
    let cookie = format!(
        "{COOKIE_NAME}={value}; Path={COOKIE_PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    let headers = response.headers_mut();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.insert(SET_COOKIE, cookie);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
