//! `GET /search/synonyms`.

use axum::extract::State;
use axum::response::Response;
use projectors::search::synonym as model;
use serde::Serialize;
use utoipa::ToSchema;

use super::Reader;
use crate::problem::Problem;
use crate::state::ApiState;

/// Words that mean the same.
#[derive(Serialize, ToSchema)]
pub(crate) struct Synonyms {
    /// Lists of words, or of short phrases.
    synonyms: Vec<Vec<String>>,
}

/// List which words mean the same
#[utoipa::path(get, path = "/search/synonyms", tag = "search",
    responses((status = 200, description = "Lists of words", body = Synonyms)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    reader: Reader,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, &[]).await?;
    let synonyms = model::synonyms(&mut view.tx, view.viewer).await?;
    Ok(view.answer(Synonyms { synonyms }))
}
