//! `GET /trending`.

use axum::extract::{Query, State};
use axum::response::Response;
use projectors::trending::query::{self as model, READS, Where};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Reader, at_most};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Hashtags, unless asked otherwise, and at most.
const TRENDS: (u32, u32) = (10, 50);

/// What is used where.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TrendingQuery {
    /// Only in this language, BCP 47.
    language: Option<String>,
    /// Only at this place, as authors name it; goes before the language.
    #[param(max_length = 200)]
    place: Option<String>,
    /// At most so many, 1 to 50.
    #[param(minimum = 1, maximum = 50)]
    limit: Option<u32>,
}

/// What is used more than before.
#[derive(Serialize, ToSchema)]
pub(crate) struct Trends {
    /// The greatest score first.
    items: Vec<Trend>,
}

/// A hashtag that is used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Trend {
    /// Without the `#`, lower case.
    tag: String,
    /// Public posts of the last three days that have it.
    posts: i64,
    /// Those posts, each weighing half as much for every six hours of its age.
    score: f64,
}

/// See which hashtags are used more than before
#[utoipa::path(get, path = "/trending", tag = "search", params(TrendingQuery),
    responses((status = 200, description = "Hashtags", body = Trends)))]
pub(crate) async fn trends(
    State(state): State<ApiState>,
    reader: Reader,
    Query(query): Query<TrendingQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(TRENDS.0);
    if !(1..=TRENDS.1).contains(&limit) {
        return Err(Problem::field(Kind::Invalid, "/limit", "is 1 to 50"));
    }
    at_most(200, "/place", query.place.as_deref())?;
    let wanted = Where {
        language: query.language,
        place: query.place,
    };
    let mut view = reader.view(&state, READS).await?;
    let now = state.clock.now();
    let trends = model::trends(&mut view.tx, view.viewer, &wanted, now, limit).await?;
    let items = trends.into_iter().map(|trend| Trend {
        tag: trend.tag,
        posts: trend.posts,
        score: trend.score,
    });
    let items = items.collect();
    Ok(view.answer(Trends { items }))
}
