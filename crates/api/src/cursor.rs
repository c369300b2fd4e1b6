//! Pages of lists. Where one ended is an opaque cursor, bound to the list, its filters and its reader.

use axum::Json;
use axum::extract::{FromRequestParts, OriginalUri, Query};
use axum::http::header::LINK;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

const LIMIT_DEFAULT: u32 = 20;
const LIMIT_MAX: u32 = 100;

/// Query parameters that every list takes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many items at most, 1 to 100; 20 when absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// Where to go on: take it from `next`.
    cursor: Option<String>,
}

/// Which page of which list is asked for.
pub(crate) struct Paging {
    pub(crate) limit: u32,
    cursor: Option<String>,
    /// The list with its filters, without limit and cursor.
    list: String,
    scope: String,
}

/// A page of a list. The list ends when there is no `next`, not when a page is short.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// This page.
    pub(crate) items: Vec<T>,
    /// The URL of the next page.
    pub(crate) next: Option<String>,
}

impl FromRequestParts<ApiState> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let who = Principal::from_request_parts(parts, state).await?;
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state)
            .await
            .unwrap_or_else(|never| match never {});
        let Query(query) = Query::<PageQuery>::try_from_uri(&uri).map_err(|_| Kind::Malformed)?;
        let limit = query
            .limit
            .map_or(Some(LIMIT_DEFAULT), |text| text.parse().ok());
        let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
        let list = without_page(&uri);
        Ok(Self {
            limit: limit.ok_or_else(|| {
                Problem::field(Kind::Invalid, "/limit", "is a number from 1 to 100")
            })?,
            cursor: query.cursor,
            scope: format!("{}\n{}\n{list}", who.tenant, who.user),
            list,
        })
    }
}

impl Paging {
    /// Where to go on, none on the first page.
    pub(crate) fn after<C: DeserializeOwned>(
        &self,
        state: &ApiState,
    ) -> Result<Option<C>, Problem> {
        let open = |text: &String| {
            state
                .cursors
                .open(&self.scope, text)
                .ok_or_else(|| Kind::CursorInvalid.into())
        };
        self.cursor.as_ref().map(open).transpose()
    }

    /// The answer: a page that goes on after `next`.
    pub(crate) fn page<T: Serialize, C: Serialize>(
        &self,
        state: &ApiState,
        items: Vec<T>,
        next: Option<C>,
    ) -> Result<Response, Problem> {
        self.answer(state, next, |next| Page { items, next })
    }

    /// The answer: what `body` makes of the URL of the next page, which goes on after `next`.
    pub(crate) fn answer<B: Serialize, C: Serialize>(
        &self,
        state: &ApiState,
        next: Option<C>,
        body: impl FnOnce(Option<String>) -> B,
    ) -> Result<Response, Problem> {
        let seal = |cursor: C| {
            state
                .cursors
                .seal(&self.scope, &cursor)
                .map_err(|error| Problem::internal(&error))
        };
        let next = next.map(seal).transpose()?.map(|cursor| {
            let separator = if self.list.contains('?') { '&' } else { '?' };
            format!(
                "{}{separator}limit={}&cursor={cursor}",
                self.list, self.limit
            )
        });
        let link = next
            .as_ref()
            .and_then(|url| HeaderValue::from_str(&format!("<{url}>; rel=\"next\"")).ok());
        let mut response = Json(body(next)).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(LINK, link);
        }
        Ok(response)
    }
}

/// Path and filters of a list's URL, as sent.
fn without_page(uri: &Uri) -> String {
    let kept = |pair: &&str| !matches!(pair.split('=').next(), Some("limit" | "cursor" | ""));
    let filters: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(kept)
        .collect();
    if filters.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), filters.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_its_path_and_filters() {
        let list = |uri: &'static str| without_page(&Uri::from_static(uri));
        assert_eq!(list("/v1/feed?limit=3&cursor=abc"), "/v1/feed");
        assert_eq!(
            list("/v1/search?q=caf%C3%A9&limit=3&kind=post"),
            "/v1/search?q=caf%C3%A9&kind=post"
        );
    }
}
