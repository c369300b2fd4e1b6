//! Queries: routes that read. They hold no SQL; `projectors` owns both sides of a read model, and `events` the log. One
//! file per noun; what they share is here.

pub(crate) mod admin;
pub(crate) mod api_key;
pub(crate) mod asset;
pub(crate) mod comment;
pub(crate) mod export;
pub(crate) mod facts;
pub(crate) mod feed;
pub(crate) mod graph;
pub(crate) mod hot;
pub(crate) mod moderation;
pub(crate) mod notification;
pub(crate) mod pairing;
pub(crate) mod peaks;
pub(crate) mod post;
pub(crate) mod search;
pub(crate) mod synonym;
pub(crate) mod trending;
pub(crate) mod usage;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use events::id::{TenantId, UserId};
use projectors::graph::query as graph_model;
use projectors::page::{Page, Viewer};
use serde::Serialize;
use service::db::TenantTx;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Principal;
use crate::cursor::Paging;
use crate::metrics::STALE_READS;
use crate::position::{BEHIND, Place, STALE};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Refuses a parameter that is longer than the document says.
fn at_most(most: usize, pointer: &'static str, text: Option<&str>) -> Result<(), Problem> {
    if text.is_some_and(|text| text.chars().count() > most) {
        let reason = format!("has at most {most} characters");
        return Err(Problem::field(Kind::Invalid, pointer, reason));
    }
    Ok(())
}

/// Who reads, and how far the read models must have come.
pub(crate) struct Reader {
    pub(crate) who: Principal,
    place: Option<Place>,
    route: String,
}

impl FromRequestParts<ApiState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        Ok(Self {
            who: Principal::from_request_parts(parts, state).await?,
            place: state.positions.wanted(&parts.headers)?,
            route: parts
                .extensions
                .get::<MatchedPath>()
                .map(|path| path.as_str().to_owned())
                .unwrap_or_default(),
        })
    }
}

impl Reader {
    pub(crate) fn user(&self) -> UserId {
        self.who.user
    }

    pub(crate) fn who(&self) -> (TenantId, UserId) {
        (self.who.tenant, self.who.user)
    }

    /// Refuses those who are no moderators of their tenant.
    pub(crate) fn must_moderate(&self) -> Result<(), Problem> {
        self.who.must_moderate()
    }

    /// Whether the reader wants to see what they did.
    pub(crate) fn wrote(&self) -> bool {
        self.place.is_some()
    }

    pub(crate) fn viewer(&self) -> Viewer {
        Viewer {
            tenant: self.who.tenant,
            user: self.who.user,
        }
    }

    /// Waits for `models` as far as the reader asked to; how old they are then.
    pub(crate) async fn age(&self, state: &ApiState, models: &[&str]) -> Result<Age, Problem> {
        let stale = match &self.place {
            // Few ask for it, and all would carry it.
            Some(place) => !Box::pin(state.wait_for(place, models)).await?,
            None => false,
        };
        if stale {
            metrics::counter!(STALE_READS, "route" => self.route.clone()).increment(1);
        }
        let lag = state.behind(models).await?;
        let behind =
            lag.and_then(|lag| HeaderValue::from_str(&format!("{:.1}", lag.as_secs_f64())).ok());
        Ok(Age { stale, behind })
    }

    /// Waits for `models` as far as the reader asked to, then opens a transaction that sees what the reader may.
    pub(crate) async fn view(&self, state: &ApiState, models: &[&str]) -> Result<View, Problem> {
        let age = self.age(state, models).await?;
        Ok(View {
            tx: TenantTx::begin(&state.pool, self.who.tenant.0, self.who.user.0).await?,
            viewer: self.viewer(),
            age,
        })
    }
}

/// The read models as one reader sees them.
pub(crate) struct View {
    pub(crate) tx: TenantTx,
    pub(crate) viewer: Viewer,
    age: Age,
}

/// How far behind the read models were, and whether further than was asked for.
pub(crate) struct Age {
    stale: bool,
    behind: Option<HeaderValue>,
}

impl Age {
    /// Says so on the answer.
    pub(crate) fn mark(self, mut response: Response) -> Response {
        if let Some(behind) = self.behind {
            response.headers_mut().insert(BEHIND, behind);
        }
        if self.stale {
            response
                .headers_mut()
                .insert(STALE, HeaderValue::from_static("true"));
        }
        response
    }
}

impl View {
    /// Keeps what was written on the way, and goes on looking.
    pub(crate) async fn keep(self, state: &ApiState) -> Result<Self, Problem> {
        let Viewer { tenant, user } = self.viewer;
        self.tx.commit().await?;
        let tx = TenantTx::begin(&state.pool, tenant.0, user.0).await?;
        Ok(Self { tx, ..self })
    }

    /// Ends the look, with an answer.
    pub(crate) fn answer(self, body: impl Serialize) -> Response {
        self.mark(Json(body).into_response())
    }

    /// Ends the look; says on the answer how old what was seen is.
    pub(crate) fn mark(self, response: Response) -> Response {
        self.age.mark(response)
    }

    /// Ends the look before the answer is made.
    pub(crate) fn end(self) -> Age {
        self.age
    }

    /// Ends the look with a page of what is about a user each.
    pub(crate) async fn about_users<T, C: Serialize, S: Serialize>(
        mut self,
        state: &ApiState,
        paging: &Paging,
        page: Page<T, C>,
        user: impl Fn(&T) -> UserId,
        shown: impl Fn(&T, Person) -> S,
    ) -> Result<Response, Problem> {
        let users: Vec<UserId> = page.items.iter().map(&user).collect();
        let people = self.people(&users).await?;
        let shown = |one: &T| shown(one, people.mention(user(one)));
        let items: Vec<S> = page.items.iter().map(shown).collect();
        Ok(self.mark(paging.page(state, items, page.next)?))
    }

    /// `users` by name; those that are not there any more, by id only.
    pub(crate) async fn people(&mut self, users: &[UserId]) -> Result<People, Problem> {
        Ok(People(
            graph_model::names(&mut self.tx, self.viewer, users).await?,
        ))
    }
}

/// Users as they are mentioned in other things.
pub(crate) struct People(BTreeMap<UserId, String>);

impl People {
    pub(crate) fn mention(&self, user: UserId) -> Person {
        Person {
            id: user.0,
            name: self.0.get(&user).cloned(),
        }
    }
}

/// A user as mentioned in other things.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Person {
    id: Uuid,
    /// The name shown; none when there is none, or the user was erased.
    name: Option<String>,
}
