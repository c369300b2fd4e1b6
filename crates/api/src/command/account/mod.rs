//! `POST /auth/…`: accounts of our own. Their state is no history, so these answer at once; only an invite can be asked for twice.

mod body;
mod cookie;

use std::time::Duration;

use accounts::{NewAccount, Purpose, Session, Signup};
use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use events::decide;
use events::decide::Refusal;
use events::fact::user::ProfileUpdated;
use events::id::{CommandId, StreamKey, TenantId, UserId};
use events::store::{Command, Emit, Streams, Undecided};
use garde::Validate;
use serde::de::DeserializeOwned;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use self::body::{Access, Invite, LogOut, Login, Registration, Reset, Verification};
use self::cookie::{cookie, set_cookie};
use super::Asked;
use crate::auth::{ISSUER, Role};
use crate::limit;
use crate::limit::rate::Who;
use crate::limit::table::Class;
use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// How long an access token holds.
const ACCESS_TTL: Duration = Duration::from_mins(10);

/// Who calls without saying who, with a body of JSON.
pub(crate) struct Sent<T> {
    peer: Peer,
    headers: HeaderMap,
    body: T,
}

impl<T: DeserializeOwned + Validate<Context = ()>> FromRequest<ApiState> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Ok(peer) = Peer::from_request_parts(&mut parts, state).await;
        super::must_be_json(&parts.headers)?;
        Ok(Self {
            peer,
            body: super::parse(&limit::read(body).await?)?,
            headers: parts.headers,
        })
    }
}

/// Register an account
///
/// Where sign-up is open, or with an invite. The answer lets one in at once, and sets the cookie that `POST /auth/refresh` needs.
#[utoipa::path(post, path = "/auth/register", tag = "accounts", request_body = Registration, security(()),
    responses((status = 201, description = "Registered, and logged in", body = Access)))]
pub(crate) async fn register(
    State(state): State<ApiState>,
    sent: Sent<Registration>,
) -> Result<Response, Problem> {
    let Sent {
        peer,
        headers,
        body,
    } = sent;
    let signup = state.accounts.signup();
    if signup == Signup::Closed {
        return Err(Kind::SignupClosed.into());
    }
    let (now, tenant) = (
        state.clock.now(),
        state.tenant(body.tenant.as_deref()).await?,
    );
    state.count_try(Class::Register, &[Who::at(&peer)]).await?;
    let account = Uuid::new_v4();
    let user = UserId::of(ISSUER, &account.to_string());
    if let (Some(email), true) = (&body.email, state.accounts.sends_mail()) {
        let to = [Who::called(tenant, email)];
        state.count_try(Class::Mail, &to).await?;
    }
    let new = NewAccount {
        tenant: tenant.0,
        account,
        owner: user.0,
        handle: body.handle,
        email: body.email,
        password: body.password.0,
        invite: body.invite,
        language: language(&headers),
    };
    let (tx, _turns, session) = state
        .accounts
        .register(&new, signup == Signup::Invite, now)
        .await?;
    state.append_first(tx, &new, body.name).await?;
    state.accounts.registered();
    Ok(state.let_in(StatusCode::CREATED, session, &peer))
}

/// Log in
///
/// The answer sets the cookie that `POST /auth/refresh` needs.
#[utoipa::path(post, path = "/auth/login", tag = "accounts", request_body = Login, security(()),
    responses((status = 200, description = "Logged in", body = Access)))]
pub(crate) async fn login(
    State(state): State<ApiState>,
    sent: Sent<Login>,
) -> Result<Response, Problem> {
    let Sent { peer, body, .. } = sent;
    let (now, tenant) = (
        state.clock.now(),
        state.tenant(body.tenant.as_deref()).await?,
    );
    let who = [Who::at(&peer), Who::called(tenant, &body.login)];
    state.count_try(Class::LogIn, &who).await?;
    let proof = state
        .accounts
        .prove(tenant.0, &body.login, &body.password.0)
        .await?;
    let session = state.accounts.begin_session(&proof, now).await?;
    Ok(state.let_in(StatusCode::OK, session, &peer))
}

/// Get the next access token
///
/// By the cookie, which is replaced. A cookie that was replaced before ends the session: somebody has a copy of it.
#[utoipa::path(post, path = "/auth/refresh", tag = "accounts", security(()),
    responses((status = 200, description = "Still logged in", body = Access)))]
pub(crate) async fn refresh(
    State(state): State<ApiState>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.must_be_ours(&peer, &headers)?;
    let cookie = cookie(&headers).ok_or(Kind::SessionEnded)?;
    state.count_try(Class::Refresh, &[Who::at(&peer)]).await?;
    let session = state.accounts.refresh(cookie, state.clock.now()).await?;
    Ok(state.let_in(StatusCode::OK, session, &peer))
}

/// Log out
///
/// Ends the session of the cookie, or all sessions of its account. Its access tokens end within seconds.
#[utoipa::path(post, path = "/auth/logout", tag = "accounts", request_body(content = Option<LogOut>, example = json!({"everywhere": true})), security(()),
    responses((status = 204, description = "Logged out")))]
pub(crate) async fn log_out(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let Ok(peer) = Peer::from_request_parts(&mut parts, &state).await;
    state.must_be_ours(&peer, &parts.headers)?;
    state.count_try(Class::Refresh, &[Who::at(&peer)]).await?;
    let body = limit::read(body).await?;
    let wanted = if body.is_empty() || &*body == b"null" {
        LogOut::default()
    } else {
        super::must_be_json(&parts.headers)?;
        super::parse(&body)?
    };
    if let Some(cookie) = cookie(&parts.headers) {
        state.accounts.log_out(cookie, wanted.everywhere).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", 0, &peer);
    Ok(response)
}

/// Prove a mail address
///
/// With the code that a mail said; or with the address, to which one is sent again: whether anybody has it is not told.
#[utoipa::path(post, path = "/auth/verify", tag = "accounts", request_body = Verification, security(()),
    responses((status = 204, description = "Proven"), (status = 202, description = "A mail is sent if an account has the address")))]
pub(crate) async fn verify(
    State(state): State<ApiState>,
    sent: Sent<Verification>,
) -> Result<Response, Problem> {
    match (&sent.body.code, &sent.body.email) {
        (Some(code), None) => {
            let who = [Who::at(&sent.peer)];
            state.count_try(Class::Code, &who).await?;
            state.accounts.verify(code, state.clock.now()).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        (None, Some(email)) => {
            let to = (&sent.headers, &**email, sent.body.tenant.as_deref());
            state.send(&sent.peer, to, Purpose::Verify).await
        }
        _ => Err(Problem::field(
            Kind::Invalid,
            "/code",
            "is there, or `email` is",
        )),
    }
}

/// Set a new password without the old one
///
/// First with the address, to which a code is sent: whether anybody has it is not told. Then with the code and the new password: all
/// sessions end.
#[utoipa::path(post, path = "/auth/reset", tag = "accounts", request_body = Reset, security(()),
    responses((status = 204, description = "The new password holds"),
        (status = 202, description = "A mail is sent if an account has the address")))]
pub(crate) async fn reset(
    State(state): State<ApiState>,
    sent: Sent<Reset>,
) -> Result<Response, Problem> {
    match (&sent.body.code, &sent.body.password, &sent.body.email) {
        (Some(code), Some(password), None) => {
            let who = [Who::at(&sent.peer)];
            state.count_try(Class::Code, &who).await?;
            state
                .accounts
                .reset(code, &password.0, state.clock.now())
                .await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        (None, None, Some(email)) => {
            let to = (&sent.headers, &**email, sent.body.tenant.as_deref());
            state.send(&sent.peer, to, Purpose::Reset).await
        }
        _ => Err(Problem::field(
            Kind::Invalid,
            "/code",
            "is there with `password`, or `email` is alone",
        )),
    }
}

/// Invite somebody
///
/// For the role moderator: a code with which one account can be registered where sign-up is by invite.
#[utoipa::path(post, path = "/auth/invites", tag = "accounts",
    responses((status = 201, description = "An invite", body = Invite)))]
pub(crate) async fn invite(
    State(state): State<ApiState>,
    asked: Asked,
) -> Result<Response, Problem> {
    asked.who.must_moderate()?;
    state.may_act(&asked.who).await?;
    let (tenant, user) = (asked.who.tenant.0, asked.who.user.0);
    let (by, command) = ((tenant, user), asked.named(&state));
    let (invite, expires_at) = state
        .accounts
        .invite(by, &command, state.clock.now())
        .await?;
    Ok((StatusCode::CREATED, Json(Invite { invite, expires_at })).into_response())
}

impl ApiState {
    /// Appends the first facts of a user of ours, in the transaction that took the name, and commits it.
    async fn append_first(
        &self,
        tx: Transaction<'static, Postgres>,
        new: &NewAccount,
        name: Option<String>,
    ) -> Result<(), Problem> {
        let (user, account) = (UserId(new.owner), new.account.to_string());
        let command = Command {
            id: CommandId {
                tenant: TenantId(new.tenant),
                actor: user,
                route: "POST /v1/auth/register".to_owned(),
                key: account.clone(),
            },
            // Nobody sends the same account twice: its id is made here.
            body_hash: self.bodies.sign(&[b"register", account.as_bytes()]),
            correlation: None,
            cause: None,
        };
        let me = StreamKey::user(user);
        let profile = ProfileUpdated {
            user,
            name: name.map(Into::into),
            bio: None,
            place: None,
            language: None,
            private: None,
        };
        let decide = |streams: &Streams| -> Result<Vec<Emit>, Refusal> {
            let known = streams.get(&me);
            let mut facts = decide::user::register(&known, ISSUER, &account)?;
            facts.extend(decide::user::update_profile(&known, profile)?);
            Ok(Emit::all(&me, facts))
        };
        let undecided = Undecided {
            command: &command,
            streams: std::slice::from_ref(&me),
            decide,
        };
        Ok(self.log.append_in(tx, vec![undecided]).await?)
    }

    /// The tenant of this name or id; unless said, the one that every install has.
    async fn tenant(&self, named: Option<&str>) -> Result<TenantId, Problem> {
        let tenant = self.accounts.tenant(named.unwrap_or("default")).await?;
        let tenant =
            tenant.ok_or_else(|| Problem::field(Kind::Invalid, "/tenant", "is not one of ours"));
        Ok(TenantId(tenant?))
    }

    async fn send(
        &self,
        peer: &Peer,
        (headers, email, tenant): (&HeaderMap, &str, Option<&str>),
        purpose: Purpose,
    ) -> Result<Response, Problem> {
        let tenant = self.tenant(tenant).await?;
        let who = [Who::at(peer), Who::called(tenant, email)];
        self.count_try(Class::Mail, &who).await?;
        let to = (email, &*language(headers));
        self.accounts
            .send(tenant.0, to, purpose, self.clock.now())
            .await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    /// The answer that lets somebody in.
    fn let_in(&self, status: StatusCode, session: Session, peer: &Peer) -> Response {
        let Session {
            session,
            refresh,
            account,
        } = session;
        let (subject, roles) = (account.account.to_string(), Role::named(&account.roles));
        let who = (TenantId(account.tenant), &*subject, &*roles);
        let access_token = self
            .verifier
            .issue(who, session, (ACCESS_TTL, self.clock.now()));
        let access = Access {
            access_token,
            token_type: "Bearer",
            expires_in: ACCESS_TTL.as_secs(),
            user: account.owner,
            tenant: account.tenant,
            roles,
            verified: account.verified,
        };
        let mut response = (status, Json(access)).into_response();
        set_cookie(
            &mut response,
            &refresh,
            accounts::SESSION_TTL.num_seconds(),
            peer,
        );
        response
    }
}

/// The language that the caller would like best.
fn language(headers: &HeaderMap) -> String {
    let wanted = headers
        .get(ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let first = wanted.split([',', ';']).next().unwrap_or_default();
    first.trim().chars().take(35).collect()
}
