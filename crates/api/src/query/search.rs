//! `GET /search`.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::Response;
use events::id::{PostId, UserId};
use projectors::feed::query as feed;
use projectors::search::query as model;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::post::Post;
use super::{Person, Reader};
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// What is searched, and what hits are shown from.
const READS: &[&str] = &["search", "feed", "engagement", "graph", "media"];

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Words; `"a phrase"`, `or` and `-not` work. Accents and inflection do not matter.
    #[serde(default)]
    #[param(max_length = 400)]
    q: String,
    /// `post` or `person`; both when absent.
    kind: Option<String>,
    /// Only by this user.
    author: Option<Uuid>,
    /// Only with this hashtag.
    hashtag: Option<String>,
    /// Only in this language, BCP 47.
    language: Option<String>,
    /// `best` or `newest`.
    order: Option<String>,
}

/// Something found.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Found {
    /// A post.
    Post {
        /// The post.
        post: Box<Post>,
    },
    /// A user.
    Person {
        /// The user.
        person: Person,
    },
}

/// Find posts and people
#[utoipa::path(get, path = "/search", tag = "search", params(SearchQuery, PageQuery),
    responses((status = 200, description = "A page of what fits", body = Page<Found>)))]
pub(crate) async fn search(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Query(query): Query<SearchQuery>,
) -> Result<Response, Problem> {
    let search = query.parse()?;
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let page = model::search(&mut view.tx, view.viewer, &search, after, paging.limit).await?;
    let of_kind = |kind: model::Kind| {
        page.items
            .iter()
            .filter(move |found| found.kind == kind.as_str())
    };
    let ids: Vec<PostId> = of_kind(model::Kind::Post)
        .map(|found| PostId(found.id))
        .collect();
    let people: Vec<UserId> = of_kind(model::Kind::Person)
        .map(|found| found.author)
        .collect();
    let people = view.people(&people).await?;
    let posts = feed::posts(&mut view.tx, view.viewer, &ids).await?;
    let order: Vec<Uuid> = posts.iter().map(|post| post.post.0).collect();
    let mut posts: BTreeMap<Uuid, Post> =
        order.into_iter().zip(view.present(posts).await?).collect();
    let items = page.items.iter().filter_map(|found| {
        if found.kind == model::Kind::Person.as_str() {
            return Some(Found::Person {
                person: people.mention(found.author),
            });
        }
        // One that was taken away between the two queries is not shown.
        posts.remove(&found.id).map(|post| Found::Post {
            post: Box::new(post),
        })
    });
    let items: Vec<Found> = items.collect();
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

impl SearchQuery {
    fn parse(self) -> Result<model::Search, Problem> {
        if self.q.chars().count() > 400 {
            return Err(Problem::field(
                Kind::Invalid,
                "/q",
                "has at most 400 characters",
            ));
        }
        if self.q.trim().is_empty() && self.hashtag.is_none() {
            return Err(Problem::field(
                Kind::Invalid,
                "/q",
                "is needed, or a hashtag",
            ));
        }
        let kind = match self.kind.as_deref() {
            None => None,
            Some("post") => Some(model::Kind::Post),
            Some("person") => Some(model::Kind::Person),
            Some(_) => return Err(Problem::field(Kind::Invalid, "/kind", "is post or person")),
        };
        let order = match self.order.as_deref() {
            None | Some("best") => model::Order::Best,
            Some("newest") => model::Order::Newest,
            Some(_) => return Err(Problem::field(Kind::Invalid, "/order", "is best or newest")),
        };
        Ok(model::Search {
            words: self.q,
            kind,
            author: self.author.map(UserId),
            hashtag: self.hashtag,
            language: self.language,
            order,
        })
    }
}
