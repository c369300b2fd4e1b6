//! `POST /webhooks/storage/{s3-sns,r2,hmac}`: a provider says that objects have come. What it says is a hint for keys that we gave out:
//! those uploads are looked at next, in storage, by who sweeps.

mod body;
mod sns;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use service::mac;

use self::body::{HmacNotice, R2Notice, SnsNotice};
pub(crate) use self::sns::Topic;
use crate::limit;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Where the signature of a notice under our own scheme is.
const SIGNATURE: &str = "cinelog-signature";
/// How old, or how far ahead of our clock, such a notice may be.
const FRESH: chrono::Duration = chrono::Duration::minutes(5);
/// Keys in one notice.
const KEYS_MAX: usize = 1000;

/// Say that objects have come
///
/// From what has no form of its own: signed by `Cinelog-Signature: t=UNIX_SECONDS,v1=HEX`, the HMAC-SHA256 of `t.BODY` under the
/// configured secret.
#[utoipa::path(post, path = "/webhooks/storage/hmac", tag = "uploads", request_body = HmacNotice, security(()),
    params(("Cinelog-Signature" = String, Header, description = "`t=UNIX_SECONDS,v1=HEX`")),
    responses((status = 204, description = "They are looked at")))]
pub(crate) async fn hmac(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let notice: HmacNotice = signed(&state, &headers, body).await?;
    state.told(notice.keys.iter().map(String::as_str)).await
}

/// Say what R2 said
///
/// An event of Cloudflare R2, or a batch of them, as a queue hands them over; signed like `/webhooks/storage/hmac` by who passes them on.
#[utoipa::path(post, path = "/webhooks/storage/r2", tag = "uploads", request_body = R2Notice, security(()),
    params(("Cinelog-Signature" = String, Header, description = "`t=UNIX_SECONDS,v1=HEX`")),
    responses((status = 204, description = "They are looked at")))]
pub(crate) async fn r2(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let notice: R2Notice = signed(&state, &headers, body).await?;
    state.told(notice.created()).await
}

/// Say what S3 said
///
/// By Amazon SNS, from the configured topic alone, with signatures of version 2. The first message confirms the subscription.
#[utoipa::path(post, path = "/webhooks/storage/s3-sns", tag = "uploads", request_body = SnsNotice, security(()),
    responses((status = 204, description = "They are looked at, or the subscription is confirmed")))]
pub(crate) async fn s3_sns(
    State(state): State<ApiState>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let topic = state.topic.as_ref().ok_or(Kind::NotFound("route"))?;
    let notice: SnsNotice = parsed(&limit::read(body).await?)?;
    topic.verify(&notice, state.clock.now()).await?;
    if notice.subscribes() {
        topic.confirm(&notice).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let created = notice.created()?;
    state.told(created.iter().map(String::as_str)).await
}

async fn signed<T: DeserializeOwned>(
    state: &ApiState,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let secret = state.config.storage_notice_secret.as_ref();
    let secret = secret.ok_or(Kind::NotFound("route"))?;
    let header = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    let body = limit::read(body).await?;
    check(
        secret.expose().as_bytes(),
        header.unwrap_or_default(),
        &body,
        state.clock.now(),
    )?;
    parsed(&body)
}

/// Refuses what is not signed so, or was long ago.
fn check(secret: &[u8], header: &str, body: &Bytes, now: DateTime<Utc>) -> Result<(), Problem> {
    let forged = || Problem::from(Kind::NoticeForged);
    let field = |name: &str| {
        let mut fields = header
            .split(',')
            .filter_map(|field| field.trim().split_once('='));
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    };
    let (at, tag) = field("t").zip(field("v1")).ok_or_else(forged)?;
    let tag = hex::decode(tag).map_err(|_| forged())?;
    let signed = [at.as_bytes(), b".", body].concat();
    if !mac::verifies(secret, &signed, &tag) {
        return Err(forged());
    }
    let at = at
        .parse()
        .ok()
        .and_then(|at| DateTime::from_timestamp(at, 0));
    must_be_fresh(at.ok_or_else(forged)?, now, FRESH)
}

/// Refuses a notice of another time: it may be somebody's copy.
fn must_be_fresh(
    at: DateTime<Utc>,
    now: DateTime<Utc>,
    most: chrono::Duration,
) -> Result<(), Problem> {
    if (now - at).abs() <= most {
        return Ok(());
    }
    Err(Problem::from(Kind::NoticeForged).detail("it was signed at another time"))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::from(Kind::BodyNotJson).detail(error.to_string()))
}

impl ApiState {
    /// Objects of these names have come.
    async fn told(&self, names: impl Iterator<Item = &str>) -> Result<StatusCode, Problem> {
        let named = names.take(KEYS_MAX);
        let ours = named.filter_map(|name| self.store.key_named(name)?.of_original());
        let assets: Vec<_> = ours.collect();
        if self.accounts.look_soon(&assets, self.clock.now()).await? > 0 {
            self.to_sweep.notify_one();
        }
        Ok(StatusCode::NO_CONTENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(secret: &[u8], at: i64, body: &[u8]) -> String {
        let tag = mac::tag(secret, &[at.to_string().as_bytes(), b".", body].concat());
        format!("t={at},v1={}", hex::encode(tag))
    }

    #[test]
    fn only_what_was_just_signed_under_the_secret_passes() {
        let (body, now) = (Bytes::from_static(b"{}"), DateTime::UNIX_EPOCH);
        let passes = |header: &str, body: &Bytes| check(b"secret", header, body, now).is_ok();
        let good = header(b"secret", 0, &body);
        assert!(passes(&good, &body));
        assert!(passes(&header(b"secret", 300, &body), &body));
        assert!(!passes(&good, &Bytes::from_static(b"{ }")), "another body");
        assert!(
            !passes(&header(b"another", 0, &body), &body),
            "another secret"
        );
        assert!(!passes(&header(b"secret", -301, &body), &body), "too old");
        assert!(!passes(&header(b"secret", 301, &body), &body), "not yet");
        assert!(!passes(&good.replace("t=0", "t=1"), &body), "another time");
        for not_one in ["", "t=0", "v1=00", "t=x,v1=00", "t=0,v1=zz"] {
            assert!(!passes(not_one, &body), "{not_one}");
        }
    }
}
