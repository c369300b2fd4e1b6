//! `PUT /search/synonyms`.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use garde::Validate;
use projectors::page::Viewer;
use projectors::search::synonym;
use serde::Deserialize;
use service::db::TenantTx;
use utoipa::ToSchema;

use super::AskedWith;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Words that mean the same.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"synonyms": [["coche", "carro", "auto"], ["gato", "minino"]]}))]
pub(crate) struct NewSynonyms {
    /// Lists of words, or of short phrases. None is in two lists; capitals do not matter.
    #[garde(
        length(max = 500),
        inner(length(min = 2, max = 20), inner(length(chars, min = 1, max = 50)))
    )]
    #[schema(max_items = 500)]
    synonyms: Vec<Vec<String>>,
}

/// Say which words mean the same
///
/// For the role moderator. A search for one finds the others from now on, in each language as it inflects them. The lists take the
/// place of all there were, also when they are sent again.
#[utoipa::path(put, path = "/search/synonyms", tag = "search", request_body = NewSynonyms,
    responses((status = 204, description = "Searches find them")))]
pub(crate) async fn replace(
    State(state): State<ApiState>,
    AskedWith(asked, new): AskedWith<NewSynonyms>,
) -> Result<Response, Problem> {
    asked.who.must_moderate()?;
    state.may_act(&asked.who).await?;
    let mut known = BTreeSet::new();
    for (n, list) in new.synonyms.iter().enumerate() {
        let wrong = |reason| Problem::field(Kind::Invalid, format!("/synonyms/{n}"), reason);
        for word in list {
            if !word.chars().any(char::is_alphanumeric) || word.contains(['\0', '*']) {
                return Err(wrong("has words in it, none of them only begun"));
            }
            if !known.insert(word.trim().to_lowercase()) {
                return Err(wrong("has no word twice, nor another list's"));
            }
        }
    }
    // No fact comes of it: it changes how is searched, and nothing that happened.
    let (tenant, user) = (asked.who.tenant, asked.who.user);
    let mut tx = TenantTx::begin(&state.pool, tenant.0, user.0).await?;
    tx.as_moderator().await?;
    synonym::replace(&mut tx, Viewer { tenant, user }, &new.synonyms).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
