//! `GET /feed`.

use axum::extract::{Query, State};
use axum::response::Response;
use projectors::feed::query as feed;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Reader;
use super::post::{Post, READS};
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// In which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedQuery {
    /// `latest`, the newest first.
    #[param(example = "latest")]
    order: Option<String>,
}

/// Read one's feed
///
/// Own posts and those of followed users.
#[utoipa::path(get, path = "/feed", tag = "feed", params(FeedQuery, PageQuery),
    responses((status = 200, description = "A page of posts", body = Page<Post>)))]
pub(crate) async fn latest(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Query(query): Query<FeedQuery>,
) -> Result<Response, Problem> {
    if query.order.is_some_and(|order| order != "latest") {
        return Err(Problem::field(Kind::Invalid, "/order", "is latest"));
    }
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let page = feed::page(&mut view.tx, view.viewer, after, paging.limit).await?;
    let items = view.present(page.items).await?;
    Ok(view.mark(paging.page(&state, items, page.next)?))
}
