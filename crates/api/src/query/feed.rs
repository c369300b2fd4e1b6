//! `GET /feed`, `GET /feed/nearby`, `GET /feed/hashtag/{tag}`.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use events::fact::post::Location;
use events::id::PostId;
use projectors::feed::query as feed;
use projectors::feed::top::{snapshot, top as top_page};
use projectors::search::query as search;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Reader;
use super::post::{Post, READS};
use super::search::READS as SEARCH_READS;
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;
use crate::word::Word;

/// In which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedQuery {
    /// `latest`, the newest first, or `top`: the newest 400 in the order of how much goes on under them, as it was when the first
    /// page was read.
    #[param(inline, required = false, value_type = FeedOrder, example = "latest")]
    order: Option<Word<FeedOrder>>,
}

/// How a feed is ordered.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FeedOrder {
    Latest,
    Top,
}

/// Read one's feed
///
/// Own posts and those of followed users. In the order `top` a page may be short and yet not the last, and a list that was begun
/// long ago is answered with 410 `cursor-expired`: begin again.
#[utoipa::path(get, path = "/feed", tag = "feed", params(FeedQuery, PageQuery),
    responses((status = 200, description = "A page of posts", body = Page<Post>)))]
pub(crate) async fn feed(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Query(query): Query<FeedQuery>,
) -> Result<Response, Problem> {
    match Word::if_any(query.order, "/order")? {
        None | Some(FeedOrder::Latest) => latest(&state, &reader, &paging).await,
        Some(FeedOrder::Top) => top(&state, &reader, &paging).await,
    }
}

async fn latest(state: &ApiState, reader: &Reader, paging: &Paging) -> Result<Response, Problem> {
    let after = paging.after(state)?;
    let mut view = reader.view(state, READS).await?;
    let page = feed::page(&mut view.tx, view.viewer, after, paging.limit).await?;
    let items = view.present(page.items).await?;
    Ok(view.mark(paging.page(state, items, page.next)?))
}

async fn top(state: &ApiState, reader: &Reader, paging: &Paging) -> Result<Response, Problem> {
    let after = paging.after(state)?;
    let mut view = reader.view(state, READS).await?;
    let from = if let Some(from) = after {
        from
    } else {
        let begun = snapshot(&mut view.tx, view.viewer).await?;
        view = view.keep(state).await?;
        begun
    };
    let page = top_page(&mut view.tx, view.viewer, from, paging.limit).await?;
    let page = page.ok_or(Kind::CursorExpired)?;
    let items = view.present(page.items).await?;
    Ok(view.mark(paging.page(state, items, page.next)?))
}

/// Around where.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct NearbyQuery {
    /// Degrees north.
    #[param(minimum = -90, maximum = 90)]
    lat: f64,
    /// Degrees east.
    #[param(minimum = -180, maximum = 180)]
    lon: f64,
    /// Metres, 1 to 25,000; 5,000 when absent.
    #[param(minimum = 1, maximum = 25_000)]
    radius: Option<f64>,
}

/// Metres around a place that are looked at, unless asked otherwise, and at most.
const RADIUS: (f64, f64) = (5_000.0, 25_000.0);

/// Read what was posted nearby
///
/// The newest first. A page may be short and yet not the last.
#[utoipa::path(get, path = "/feed/nearby", tag = "feed", params(NearbyQuery, PageQuery),
    responses((status = 200, description = "A page of posts", body = Page<Post>)))]
pub(crate) async fn nearby(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Query(query): Query<NearbyQuery>,
) -> Result<Response, Problem> {
    let here = Location::new(query.lat, query.lon).ok_or_else(|| {
        let reason = "lat is -90 to 90 and lon is -180 to 180";
        Problem::field(Kind::Invalid, "/lat", reason)
    })?;
    let radius = query.radius.unwrap_or(RADIUS.0);
    if !(1.0..=RADIUS.1).contains(&radius) {
        let reason = "is 1 to 25000 metres";
        return Err(Problem::field(Kind::Invalid, "/radius", reason));
    }
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let page = feed::nearby(
        &mut view.tx,
        view.viewer,
        (here, radius),
        after,
        paging.limit,
    )
    .await?;
    let items = view.present(page.items).await?;
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

/// Read what has a hashtag
///
/// The newest first. A page may be short and yet not the last.
#[utoipa::path(get, path = "/feed/hashtag/{tag}", tag = "feed",
    params(("tag" = String, Path, description = "With or without its `#`"), PageQuery),
    responses((status = 200, description = "A page of posts", body = Page<Post>)))]
pub(crate) async fn hashtag(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Path(tag): Path<String>,
) -> Result<Response, Problem> {
    let wanted = search::Search {
        hashtag: Some(tag),
        kind: Some(search::Kind::Post),
        order: search::Order::Newest,
        ..search::Search::default()
    };
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, SEARCH_READS).await?;
    let page = search::search(&mut view.tx, view.viewer, &wanted, after, paging.limit).await?;
    let posts: Vec<PostId> = page.items.iter().map(|found| PostId(found.id)).collect();
    let posts = feed::posts(&mut view.tx, view.viewer, &posts).await?;
    let items = view.present(posts).await?;
    Ok(view.mark(paging.page(&state, items, page.next)?))
}
