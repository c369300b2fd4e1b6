//! Commands: routes that decide and append. One file per noun; what they share is here.

pub(crate) mod account;
pub(crate) mod api_key;
pub(crate) mod block;
pub(crate) mod comment;
pub(crate) mod erasure;
pub(crate) mod follow;
pub(crate) mod job;
pub(crate) mod moderation;
pub(crate) mod notification;
pub(crate) mod pairing;
pub(crate) mod post;
pub(crate) mod profile;
pub(crate) mod reaction;
pub(crate) mod share;
pub(crate) mod sight;
pub(crate) mod synonym;
pub(crate) mod upload;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Utc};
use events::decide::asset::AssetState;
use events::decide::user::UserState;
use events::decide::{self, Refusal, State};
use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{AssetId, CommandId, StreamKey};
use events::store::{Accepted, Command, Emit, Streams, Undecided};
use garde::Validate;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::auth::Principal;
use crate::edge::RequestId;
use crate::problem::{FieldError, Kind, Problem};
use crate::state::ApiState;
use crate::{limit, position};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_MAX: usize = 255;
const LANGUAGE_MAX: usize = 35;

/// Who asks for what, with the command id that makes asking twice asking once.
pub(crate) struct Asked {
    pub(crate) who: Principal,
    pub(crate) command: Command,
}

impl Asked {
    /// The command id as bits that only we can make of it, for what comes of it and is no fact.
    fn named(&self, state: &ApiState) -> [u8; 32] {
        let id = &self.command.id;
        state.bodies.sign(&[
            id.tenant.0.as_bytes(),
            id.actor.0.as_bytes(),
            id.key.as_bytes(),
        ])
    }
}

/// [`Asked`] with a body of JSON.
pub(crate) struct AskedWith<T>(pub(crate) Asked, pub(crate) T);

impl FromRequest<ApiState> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        Ok(take(request, state).await?.0)
    }
}

impl<T: DeserializeOwned + Validate<Context = ()>> FromRequest<ApiState> for AskedWith<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (asked, headers, body) = take(request, state).await?;
        must_be_json(&headers)?;
        Ok(Self(asked, parse(&body)?))
    }
}

/// Refuses bodies that do not say that they are JSON.
fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = media_type.unwrap_or_default().split(';').next();
    if essence
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
    {
        return Ok(());
    }
    Err(Kind::ContentType.into())
}

async fn take(request: Request, state: &ApiState) -> Result<(Asked, HeaderMap, Bytes), Problem> {
    let (mut parts, body) = request.into_parts();
    let who = Principal::from_request_parts(&mut parts, state).await?;
    let key = match parts.headers.get(IDEMPOTENCY_KEY) {
        None => Uuid::new_v4().to_string(),
        Some(value) => {
            let key = value
                .to_str()
                .ok()
                .filter(|key| is_key(key))
                .ok_or(Kind::KeyInvalid)?;
            // The log keeps it for ever, and a client may have put anything into it.
            BASE64.encode(state.bodies.sign(&[b"idempotency-key", key.as_bytes()]))
        }
    };
    let route = parts
        .extensions
        .get::<MatchedPath>()
        .map_or_else(|| parts.uri.path().to_owned(), |p| p.as_str().to_owned());
    let body = limit::read(body).await?;
    let asked = [
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        &body,
    ];
    let command = Command {
        id: CommandId {
            tenant: who.tenant,
            actor: who.user,
            route: format!("{} {route}", parts.method),
            key,
        },
        body_hash: state.bodies.sign(&asked),
        // Likewise: an id that is no UUID stays in the answer and in the access log.
        correlation: parts
            .extensions
            .get::<RequestId>()
            .filter(|id| id.0.parse::<Uuid>().is_ok())
            .map(|id| id.0.to_string()),
        cause: None,
    };
    Ok((Asked { who, command }, parts.headers, body))
}

/// A language tag as BCP 47 forms it: subtags of letters and digits, so that no other text hides in one.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "garde passes its context so"
)]
fn language_tag(tag: &str, (): &()) -> garde::Result {
    let mut subtags = tag.split('-');
    let language = subtags.next().unwrap_or_default();
    let fine = tag.len() <= LANGUAGE_MAX
        && (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|sub| {
            (1..=8).contains(&sub.len()) && sub.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    if fine {
        return Ok(());
    }
    Err(garde::Error::new("is a language tag, e.g. es or pt-BR"))
}

fn is_key(key: &str) -> bool {
    (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The body as what it should be; the caller is told each field that is wrong.
fn parse<T: DeserializeOwned + Validate<Context = ()>>(body: &[u8]) -> Result<T, Problem> {
    // serde would also take a list of an object's values, which nobody was told of.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::field(Kind::Invalid, "", "is an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        match error.inner().classify() {
            serde_json::error::Category::Data => Problem::field(
                Kind::Invalid,
                pointer(&error.path().to_string()),
                error.inner().to_string(),
            ),
            _ => Problem::from(Kind::BodyNotJson).detail(error.inner().to_string()),
        }
    })?;
    json.end()
        .map_err(|error| Problem::from(Kind::BodyNotJson).detail(error.to_string()))?;
    let wrong = |(path, error): &(garde::Path, garde::Error)| FieldError {
        pointer: pointer(&path.to_string()),
        detail: error.message().to_owned(),
    };
    parsed
        .validate()
        .map_err(|report| Problem::fields(report.iter().map(wrong).collect()))?;
    Ok(parsed)
}

/// `assets[2].name` as a JSON pointer. Our own field names need no escaping.
fn pointer(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "");
    path.split('.')
        .filter(|part| !part.is_empty())
        .fold(String::new(), |pointer, part| format!("{pointer}/{part}"))
}

/// A command that was accepted.
pub(crate) struct Done {
    accepted: Accepted,
    position: Option<String>,
}

impl Done {
    /// The first of its facts that `pick` picks. A repeat has the same facts, so answers made of them are the same.
    pub(crate) fn fact<'a, T>(&'a self, pick: impl Fn(&'a Recorded) -> Option<T>) -> Option<T> {
        self.accepted.facts.iter().find_map(pick)
    }

    /// Whether all was as wanted before, so that there are no facts to answer from.
    pub(crate) fn changed_nothing(&self) -> bool {
        self.accepted.facts.is_empty()
    }

    /// An answer with a body.
    pub(crate) fn answer(&self, status: StatusCode, body: impl Serialize) -> Response {
        self.with_position((status, Json(body)).into_response())
    }

    /// An answer without.
    pub(crate) fn no_content(&self) -> Response {
        self.with_position(StatusCode::NO_CONTENT.into_response())
    }

    fn with_position(&self, mut response: Response) -> Response {
        let token = self
            .position
            .as_deref()
            .and_then(|token| HeaderValue::from_str(token).ok());
        if let Some(token) = token {
            response.headers_mut().insert(position::POSITION, token);
        }
        response
    }
}

/// The streams to decide over: those that a command names, once each, and its user's.
fn once_each(streams: &[&StreamKey], me: &StreamKey) -> Vec<StreamKey> {
    let mut keys: Vec<StreamKey> = Vec::with_capacity(streams.len() + 1);
    for key in streams.iter().copied().chain([me]) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

impl ApiState {
    /// Decides and appends, unless the user is suspended. The first facts of a user bring `user.registered` with them, in the same append: a refused
    /// first command leaves no trace.
    pub(crate) async fn execute(
        &self,
        asked: &Asked,
        streams: &[&StreamKey],
        mut decide: impl FnMut(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    ) -> Result<Done, Problem> {
        let who = &asked.who;
        let me = StreamKey::user(who.user);
        let now = self.clock.now();
        let keys = once_each(streams, &me);
        let accepted = self.log.execute(&asked.command, &keys, |streams| {
            with_user(who, &me, now, streams, &mut decide)
        });
        let accepted = accepted.await?;
        Ok(Done {
            position: self.positions.token(&accepted.facts),
            accepted,
        })
    }

    /// [`ApiState::execute`] in a transaction, which it commits, of whose rows nobody must know without its facts.
    async fn execute_in(
        &self,
        asked: &Asked,
        tx: Transaction<'static, Postgres>,
        streams: &[&StreamKey],
        decide: impl FnMut(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    ) -> Result<(), Problem> {
        let (who, now) = (&asked.who, self.clock.now());
        let me = StreamKey::user(who.user);
        let keys = once_each(streams, &me);
        let undecided = Undecided {
            command: &asked.command,
            streams: &keys,
            decide: |streams: &Streams| with_user(who, &me, now, streams, decide),
        };
        Ok(self.log.append_in(tx, vec![undecided]).await?)
    }

    /// Decides about an asset.
    async fn decide_asset(
        &self,
        asked: &Asked,
        asset: AssetId,
        mut decide: impl FnMut(&AssetState) -> Result<Vec<Fact>, Refusal> + Send,
    ) -> Result<Done, Problem> {
        let key = StreamKey::asset(asset);
        let decide = |streams: &Streams| Ok(Emit::all(&key, decide(&streams.get(&key))?));
        self.execute(asked, &[&key], decide).await
    }

    /// Refuses who is suspended or was erased, where no fact comes of what is asked for.
    async fn may_act(&self, who: &Principal) -> Result<(), Problem> {
        let me: UserState = self.peek(who, &StreamKey::user(who.user)).await?;
        me.may_act(self.clock.now())?;
        if me.erased {
            return Err(Problem::from(Kind::Forbidden).detail("this account was erased"));
        }
        Ok(())
    }

    /// A stream's state, before any lock: for finding out which other streams a command concerns.
    pub(crate) async fn peek<S: State>(
        &self,
        who: &Principal,
        key: &StreamKey,
    ) -> Result<S, Problem> {
        let row = self.log.stream(who.tenant, &key.stream).await?;
        Ok(row.map(|row| row.state()).unwrap_or_default())
    }
}

/// What a user who may act wants. The first time, it brings the user's registration with it.
fn with_user(
    who: &Principal,
    me: &StreamKey,
    now: DateTime<Utc>,
    streams: &Streams,
    mut decide: impl FnMut(&Streams) -> Result<Vec<Emit>, Refusal>,
) -> Result<Vec<Emit>, Refusal> {
    let user: UserState = streams.get(me);
    user.may_act(now)?;
    let wanted = decide(streams)?;
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let first = decide::user::register(&user, &who.issuer, &who.account)?;
    Ok(Emit::all(me, first).into_iter().chain(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_pointers() {
        assert_eq!(pointer("text"), "/text");
        assert_eq!(pointer("assets[2]"), "/assets/2");
        assert_eq!(pointer("assets.2.name"), "/assets/2/name");
        assert_eq!(pointer("."), "");
    }

    #[test]
    fn keys_are_short_and_visible() {
        assert!(is_key("a1-b2"));
        assert!(!is_key(""));
        assert!(!is_key("a b"));
        assert!(!is_key(&"x".repeat(256)));
    }
}
