//! Who asks: the bearer of a token of ours, of a token of an issuer that is trusted, or of an API key. A token's own algorithm and
//! key hints (`jku`, `jwk`, `x5u`) decide nothing.

mod issuer;
mod own;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use chrono::{DateTime, Utc};
use events::id::{TenantId, UserId};
use serde::{Deserialize, Serialize};
use service::secret::Secret;
use utoipa::ToSchema;
use uuid::Uuid;

use accounts::{Accounts, Machine, Scope};

use crate::problem::{Kind, Problem};
use crate::state::ApiState;

pub use issuer::{IssuerError, Issuers};
pub(crate) use own::Verifier;
pub use own::{ISSUER, issue};

/// What a bearer may do beyond what every user may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Uses the product.
    Member,
    /// Hides content and suspends accounts of a tenant.
    Moderator,
    /// Runs the platform.
    Operator,
    /// Reads the tenant's facts.
    Data,
    /// Reads all facts.
    #[value(alias = "data_global")]
    DataGlobal,
}

impl Role {
    /// Whether it reaches beyond one tenant, so that only who runs the platform may give it.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Operator | Self::DataGlobal)
    }

    /// As written in tokens and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Operator => "operator",
            Self::Data => "data",
            Self::DataGlobal => "data_global",
        }
    }

    /// The roles of these names; what is none is left out.
    pub(crate) fn named(names: &[String]) -> Vec<Self> {
        const ALL: [Role; 5] = [
            Role::Member,
            Role::Moderator,
            Role::Operator,
            Role::Data,
            Role::DataGlobal,
        ];
        let known = |name: &String| ALL.into_iter().find(|role| role.name() == name);
        names.iter().filter_map(known).collect()
    }
}

/// By what somebody proves who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A token.
    Token,
    /// A machine's key, which may end while what it began goes on.
    ApiKey(Secret),
}

/// Who asks, proven.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// Who vouches for the user.
    pub(crate) issuer: String,
    /// What the issuer calls the user. Personal: it goes into a sealed field and nowhere else.
    pub(crate) account: String,
    /// With which rights beyond those of every user.
    pub(crate) roles: Vec<Role>,
    /// Until when, at most; what streams ends then.
    pub(crate) until: DateTime<Utc>,
    /// By what it is proven.
    pub(crate) by: By,
    /// The session of ours that it ends with.
    pub(crate) session: Option<Uuid>,
}

impl Principal {
    /// Refuses those who are no moderators of their tenant.
    pub(crate) fn must_moderate(&self) -> Result<(), Problem> {
        if self.roles.contains(&Role::Moderator) {
            return Ok(());
        }
        Err(Problem::from(Kind::Forbidden).detail("this is for the role moderator"))
    }

    /// Refuses those who do not run the platform.
    pub(crate) fn must_operate(&self) -> Result<(), Problem> {
        if self.roles.contains(&Role::Operator) {
            return Ok(());
        }
        Err(Problem::from(Kind::Forbidden).detail("this is for the role operator"))
    }

    /// Refuses machines: what is asked for is for their owners.
    pub(crate) fn must_be_a_person(&self) -> Result<(), Problem> {
        if self.by == By::Token {
            return Ok(());
        }
        Err(Problem::from(Kind::Forbidden).detail("this needs a token: an API key may not do it"))
    }
}

/// Who issued a token, as it says; nothing is proven by that.
fn issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issued {
        iss: String,
    }
    let said = jsonwebtoken::dangerous::insecure_decode_claims::<Issued>(token);
    said.ok().map(|said| said.iss)
}

/// What a method is to a machine's key.
fn scope(method: &Method) -> Scope {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        Scope::Read
    } else {
        Scope::Write
    }
}

/// How long it may take to find out who asks.
const PROVING: Duration = Duration::from_secs(10);

/// How long the stream of somebody may last whom no session of ours vouches for: nobody would tell that their right has ended.
const STREAMS: chrono::Duration = chrono::Duration::minutes(10);

/// Who shows the `key` of `machine`.
fn of_machine(machine: &Machine, key: &str, roles: Vec<Role>, now: DateTime<Utc>) -> Principal {
    let most = now + STREAMS;
    Principal {
        tenant: TenantId(machine.tenant),
        user: UserId(machine.owner),
        issuer: machine.issuer.clone(),
        // It was known when the key was made, and the user registered with it.
        account: String::new(),
        roles,
        until: machine.expires_at.map_or(most, |until| until.min(most)),
        by: By::ApiKey(Secret::new(key)),
        session: None,
    }
}

impl ApiState {
    /// Who the headers prove to ask, for what `method` does.
    pub(crate) async fn principal(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Principal, Problem> {
        let proven = tokio::time::timeout(PROVING, self.prove(method, headers)).await;
        proven.map_err(|_| Kind::Timeout)?
    }

    async fn prove(&self, method: &Method, headers: &HeaderMap) -> Result<Principal, Problem> {
        let header = headers.get(AUTHORIZATION).ok_or(Kind::TokenMissing)?;
        let token = header.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let (token, now) = (token.ok_or(Kind::TokenMissing)?, self.clock.now());
        if Accounts::is_api_key(token) {
            let (machine, roles) = self.machine(token, now).await?;
            if !machine.may(scope(method)) {
                return Err(
                    Problem::from(Kind::Forbidden).detail("the API key lacks the scope for this")
                );
            }
            return Ok(of_machine(&machine, token, roles, now));
        }
        let issuer = issuer(token).ok_or(Kind::TokenInvalid)?;
        let mut who = if issuer == ISSUER {
            self.verifier.verify(token, now)?
        } else {
            self.issuers.verify(&issuer, token, now).await?
        };
        match who.session {
            Some(session) if !self.accounts.is_live(who.tenant.0, session).await? => {
                return Err(Kind::SessionEnded.into());
            }
            Some(_) => {}
            None => who.until = who.until.min(now + STREAMS),
        }
        Ok(who)
    }

    /// The machine that shows `key`, and with which roles.
    async fn machine(
        &self,
        key: &str,
        now: DateTime<Utc>,
    ) -> Result<(Arc<Machine>, Vec<Role>), Problem> {
        let machine = self.accounts.machine(key, now).await?;
        let machine = machine.ok_or(Kind::TokenInvalid)?;
        // What the issuer may not give any more, its machines have no more.
        let (issuer, tenant) = (&machine.issuer, TenantId(machine.tenant));
        let roles = Role::named(&machine.roles);
        let roles = self
            .issuers
            .allowed(issuer, tenant, roles)
            .ok_or(Kind::TokenInvalid)?;
        Ok((machine, roles))
    }

    /// Whether `who` may still do what they could when they were proven: no session or key of theirs has ended, or lost a role.
    pub(crate) async fn still_holds(&self, who: &Principal) -> Result<bool, Problem> {
        match (&who.by, who.session) {
            (By::ApiKey(key), _) => match self.machine(key.expose(), self.clock.now()).await {
                Ok((_, roles)) => Ok(who.roles.iter().all(|role| roles.contains(role))),
                Err(problem) if problem.is(Kind::TokenInvalid) => Ok(false),
                Err(problem) => Err(problem),
            },
            (By::Token, Some(session)) => Ok(self.accounts.is_live(who.tenant.0, session).await?),
            (By::Token, None) => Ok(true),
        }
    }
}

/// What [`ApiState::principal`] told of a request, for those behind.
#[derive(Clone)]
pub(crate) struct Asks(pub(crate) Result<Principal, Problem>);

impl FromRequestParts<ApiState> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        if let Some(Asks(known)) = parts.extensions.get() {
            return known.clone();
        }
        state.principal(&parts.method, &parts.headers).await
    }
}
