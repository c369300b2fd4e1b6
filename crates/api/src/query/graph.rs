//! `GET /users/{id}`, `/users/{id}/{posts,followers,following}`, `/users/me/{blocks,mutes}`, `/follow-requests` and
//! `/suggestions`.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use events::id::UserId;
use projectors::feed::query as feed;
use projectors::graph::query as graph;
use projectors::page;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::post::{Post, READS as POST_READS};
use super::{Person, Reader, View};
use crate::command::follow::Standing;
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// A user.
#[derive(Serialize, ToSchema)]
pub(crate) struct User {
    id: Uuid,
    name: Option<String>,
    bio: Option<String>,
    place: Option<String>,
    language: Option<String>,
    /// Whether followers must be let in.
    private: bool,
    /// How many follow this user.
    followers: i64,
    /// How many this user follows.
    following: i64,
    /// Where one stands with this user oneself.
    #[schema(value_type = Option<Standing>)]
    relation: Option<String>,
    /// Whether one blocks this user oneself.
    blocked: bool,
    /// Whether one mutes this user oneself.
    muted: bool,
}

/// Someone whom one may know.
#[derive(Serialize, ToSchema)]
pub(crate) struct Suggestion {
    #[serde(flatten)]
    user: Person,
    /// How many of those whom one follows follow this user.
    common: i64,
}

/// Which followers.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FollowersQuery {
    /// Only those whom one follows oneself.
    #[serde(default)]
    mutual: bool,
}

/// Read oneself
#[utoipa::path(get, path = "/users/me", tag = "users",
    responses((status = 200, description = "The user", body = User)))]
pub(crate) async fn me(State(state): State<ApiState>, reader: Reader) -> Result<Response, Problem> {
    let mut view = reader.view(&state, graph::READS).await?;
    let profile = view.profile(reader.user()).await?;
    Ok(view.answer(User::from(profile)))
}

/// Read a user
#[utoipa::path(get, path = "/users/{id}", tag = "users",
    params(("id" = Uuid, Path)), responses((status = 200, description = "The user", body = User)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    reader: Reader,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, graph::READS).await?;
    let profile = view.profile(UserId(id)).await?;
    Ok(view.answer(User::from(profile)))
}

/// List a user's posts
#[utoipa::path(get, path = "/users/{id}/posts", tag = "users",
    params(("id" = String, Path, description = "an id, or `me`"), PageQuery),
    responses((status = 200, description = "A page of posts, newest first", body = Page<Post>)))]
pub(crate) async fn posts(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (user, after) = (named(&id, &reader)?, paging.after(&state)?);
    let mut view = reader.view(&state, POST_READS).await?;
    view.profile(user).await?;
    let page = feed::by_author(&mut view.tx, view.viewer, user, after, paging.limit).await?;
    let items = view.present(page.items).await?;
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

/// List a user's followers
///
/// `mutual=true` gives those whom one follows oneself: followers one knows.
#[utoipa::path(get, path = "/users/{id}/followers", tag = "follows",
    params(("id" = String, Path, description = "an id, or `me`"), FollowersQuery, PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn followers(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(id): Path<String>,
    Query(query): Query<FollowersQuery>,
) -> Result<Response, Problem> {
    let (user, after) = (named(&id, &reader)?, paging.after(&state)?);
    let mut view = reader.view(&state, graph::READS).await?;
    view.profile(user).await?;
    let page = if query.mutual {
        graph::mutuals(&mut view.tx, view.viewer, user, after, paging.limit).await?
    } else {
        graph::followers(&mut view.tx, view.viewer, user, after, paging.limit).await?
    };
    view.related(&state, &paging, page).await
}

/// List whom a user follows
#[utoipa::path(get, path = "/users/{id}/following", tag = "follows",
    params(("id" = String, Path, description = "an id, or `me`"), PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn following(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (user, after) = (named(&id, &reader)?, paging.after(&state)?);
    let mut view = reader.view(&state, graph::READS).await?;
    view.profile(user).await?;
    let page = graph::following(&mut view.tx, view.viewer, user, after, paging.limit).await?;
    view.related(&state, &paging, page).await
}

/// List who asks to follow oneself
#[utoipa::path(get, path = "/follow-requests", tag = "follows", params(PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn requests(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, graph::READS).await?;
    let page = graph::requests(&mut view.tx, view.viewer, after, paging.limit).await?;
    view.related(&state, &paging, page).await
}

/// List whom one blocks
#[utoipa::path(get, path = "/users/me/blocks", tag = "follows", params(PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn blocks(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, graph::READS).await?;
    let page = graph::blocks(&mut view.tx, view.viewer, after, paging.limit).await?;
    view.related(&state, &paging, page).await
}

/// List whom one mutes
#[utoipa::path(get, path = "/users/me/mutes", tag = "follows", params(PageQuery),
    responses((status = 200, description = "A page of users, newest first", body = Page<Person>)))]
pub(crate) async fn mutes(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, graph::READS).await?;
    let page = graph::mutes(&mut view.tx, view.viewer, after, paging.limit).await?;
    view.related(&state, &paging, page).await
}

/// List users whom one may know
///
/// Those whom the users whom one follows follow, most of them in common first.
#[utoipa::path(get, path = "/suggestions", tag = "follows", params(PageQuery),
    responses((status = 200, description = "A page of users", body = Page<Suggestion>)))]
pub(crate) async fn suggestions(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, graph::READS).await?;
    let page = graph::suggestions(&mut view.tx, view.viewer, after, paging.limit).await?;
    let shown = |one: &graph::Suggestion, user| Suggestion {
        user,
        common: one.common,
    };
    view.about_users(&state, &paging, page, |one| one.user, shown)
        .await
}

impl From<graph::Profile> for User {
    fn from(profile: graph::Profile) -> Self {
        Self {
            id: profile.user.0,
            name: profile.name,
            bio: profile.bio,
            place: profile.place,
            language: profile.language,
            private: profile.private,
            followers: profile.followers,
            following: profile.following,
            relation: profile.relation,
            blocked: profile.blocked,
            muted: profile.muted,
        }
    }
}

fn named(id: &str, reader: &Reader) -> Result<UserId, Problem> {
    if id == "me" {
        return Ok(reader.user());
    }
    id.parse().map_err(|_| Kind::NotFound("user").into())
}

impl View {
    async fn profile(&mut self, user: UserId) -> Result<graph::Profile, Problem> {
        graph::profile(&mut self.tx, self.viewer, user)
            .await?
            .ok_or_else(|| Kind::NotFound("user").into())
    }

    async fn related(
        self,
        state: &ApiState,
        paging: &Paging,
        page: page::Page<graph::Related>,
    ) -> Result<Response, Problem> {
        self.about_users(state, paging, page, |one| one.user, |_, user| user)
            .await
    }
}
