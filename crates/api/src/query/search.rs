//! `GET /search`, `GET /search/complete`.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::Response;
use chrono::{DateTime, Datelike, Utc};
use events::id::{PostId, UserId};
use projectors::feed::query as feed;
use projectors::search::facets::{Facet, facets};
use projectors::search::{complete, query as model};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::post::Post;
use super::{Person, Reader, View, at_most};
use crate::cursor::{PageQuery, Paging};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;
use crate::word::Word;

/// What is searched, and what hits are shown from.
pub(super) const READS: &[&str] = &[
    "search",
    "feed",
    "engagement",
    "graph",
    "media",
    "moderation",
];

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Words; `"a phrase"`, `or`, `-not` and the beginning of a word, `gat*`, work. Accents and inflection do not matter.
    #[serde(default)]
    #[param(max_length = 400)]
    q: String,
    /// `post`, `person` or `asset` (own files, by name); all when absent.
    #[param(inline, required = false, value_type = SearchKind)]
    kind: Option<Word<SearchKind>>,
    /// Only by this user.
    author: Option<Uuid>,
    /// Only with this hashtag.
    hashtag: Option<String>,
    /// Only in this language, BCP 47.
    language: Option<String>,
    /// Only at this place, as its author names it. Case and accents do not matter.
    #[param(max_length = 200)]
    place: Option<String>,
    /// Only from this time on, RFC 3339.
    from: Option<DateTime<Utc>>,
    /// Only before this time, RFC 3339.
    to: Option<DateTime<Utc>>,
    /// `best` of the newest that fit, or `newest` first; `best` when absent.
    #[param(inline, required = false, value_type = SearchOrder)]
    order: Option<Word<SearchOrder>>,
    /// Whether to count what is found, by `kind`, `author`, `hashtag`, `language`, `place` and `month`.
    #[serde(default)]
    facets: bool,
}

/// What can be found.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SearchKind {
    Post,
    Person,
    Asset,
}

impl From<SearchKind> for model::Kind {
    fn from(kind: SearchKind) -> Self {
        match kind {
            SearchKind::Post => Self::Post,
            SearchKind::Person => Self::Person,
            SearchKind::Asset => Self::Asset,
        }
    }
}

/// How what is found is ordered.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SearchOrder {
    Best,
    Newest,
}

/// Something found.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Found {
    /// A post.
    Post {
        /// The post.
        post: Box<Post>,
        /// The part of it that fits, as HTML with nothing but `<mark>` in it; none without words.
        snippet: Option<String>,
    },
    /// A user.
    Person {
        /// The user.
        person: Person,
        /// The part of name and words that fits, as a post's.
        snippet: Option<String>,
    },
    /// An own file.
    Asset {
        /// The asset's id.
        asset: Uuid,
        /// Its name with what fits, as a post's.
        snippet: Option<String>,
    },
}

/// A page of what fits, and what helps to look on. The list ends when there is no `next`, not when a page is short.
#[derive(Serialize, ToSchema)]
pub(crate) struct Results {
    /// This page.
    items: Vec<Found>,
    /// The URL of the next page.
    next: Option<String>,
    /// When nothing fits: the query with words that nobody uses replaced by near ones that somebody does.
    did_you_mean: Option<String>,
    /// Where `facets` asks for it, on the first page: of the newest 2,000 results, how many have which value; the ten most frequent.
    facets: Option<BTreeMap<String, Vec<Count>>>,
}

/// A value to filter by.
#[derive(Serialize, ToSchema)]
pub(crate) struct Count {
    /// As the filter takes it; a month as `2026-11`.
    value: String,
    /// Results that have it.
    count: i64,
}

impl From<Facet> for Count {
    fn from(facet: Facet) -> Self {
        Self {
            value: facet.value,
            count: facet.count,
        }
    }
}

/// Find posts, people and own files
#[utoipa::path(get, path = "/search", tag = "search", params(SearchQuery, PageQuery),
    responses((status = 200, description = "A page of what fits", body = Results)))]
pub(crate) async fn search(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
    Query(query): Query<SearchQuery>,
) -> Result<Response, Problem> {
    let query_facets = query.facets;
    let search = query.parse()?;
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    let page = model::search(&mut view.tx, view.viewer, &search, after, paging.limit).await?;
    let repaired = if page.items.is_empty() && after.is_none() {
        complete::repaired(&mut view.tx, view.viewer, &search).await?
    } else {
        None
    };
    let counted = if query_facets && after.is_none() {
        let counted = facets(&mut view.tx, view.viewer, &search).await?;
        let counts = |facets: Vec<Facet>| facets.into_iter().map(Count::from).collect();
        let counted = counted
            .into_iter()
            .map(|(name, facets)| (name, counts(facets)));
        Some(counted.collect())
    } else {
        None
    };
    let items = present(&mut view, page.items).await?;
    Ok(view.mark(paging.answer(&state, page.next, |next| Results {
        items,
        next,
        did_you_mean: repaired,
        facets: counted,
    })?))
}

async fn present(view: &mut View, found: Vec<model::Found>) -> Result<Vec<Found>, Problem> {
    let of_kind = |kind: model::Kind| {
        found
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
    let items = found.into_iter().filter_map(|found| {
        let snippet = found.snippet;
        Some(match &*found.kind {
            "person" => Found::Person {
                person: people.mention(found.author),
                snippet,
            },
            "asset" => Found::Asset {
                asset: found.id,
                snippet,
            },
            // One that was taken away between the two queries is not shown.
            _ => Found::Post {
                post: Box::new(posts.remove(&found.id)?),
                snippet,
            },
        })
    });
    Ok(items.collect())
}

/// What is being typed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CompleteQuery {
    /// What has been typed; its last word is completed.
    #[param(max_length = 400)]
    q: String,
    /// At most so many of each, 1 to 20.
    limit: Option<u32>,
}

/// What may have been meant by the beginning of a word.
#[derive(Serialize, ToSchema)]
pub(crate) struct Completions {
    /// Words of public posts and of profiles, most used first.
    words: Vec<String>,
    /// Hashtags of public posts, most used first.
    hashtags: Vec<String>,
    /// Users whose name begins so.
    people: Vec<Person>,
}

/// Complete what is being typed
#[utoipa::path(get, path = "/search/complete", tag = "search", params(CompleteQuery),
    responses((status = 200, description = "Words, hashtags and people", body = Completions)))]
pub(crate) async fn complete(
    State(state): State<ApiState>,
    reader: Reader,
    Query(query): Query<CompleteQuery>,
) -> Result<Response, Problem> {
    at_most(400, "/q", Some(&query.q))?;
    let limit = query.limit.unwrap_or(COMPLETIONS);
    if !(1..=COMPLETIONS_MAX).contains(&limit) {
        return Err(Problem::field(Kind::Invalid, "/limit", "is 1 to 20"));
    }
    let mut view = reader.view(&state, READS).await?;
    let (tx, viewer) = (&mut view.tx, view.viewer);
    let last = query.q.split_whitespace().last().unwrap_or_default();
    let hashtags = match last.trim_start_matches('#') {
        "" => vec![],
        tag => complete::hashtags(tx, viewer, tag, limit).await?,
    };
    let words = if last.starts_with('#') {
        vec![]
    } else {
        complete::words(tx, viewer, &query.q, limit).await?
    };
    let found = complete::people(tx, viewer, &query.q, limit).await?;
    let people = view.people(&found).await?;
    Ok(view.answer(Completions {
        words: words.into_iter().map(|word| word.term).collect(),
        hashtags: hashtags.into_iter().map(|hashtag| hashtag.tag).collect(),
        people: found.into_iter().map(|user| people.mention(user)).collect(),
    }))
}

/// Completions of each kind unless asked otherwise.
const COMPLETIONS: u32 = 8;
/// The most that can be asked for.
const COMPLETIONS_MAX: u32 = 20;

impl SearchQuery {
    fn parse(self) -> Result<model::Search, Problem> {
        at_most(400, "/q", Some(&self.q))?;
        at_most(200, "/place", self.place.as_deref())?;
        if self.q.trim().is_empty() && self.hashtag.is_none() {
            return Err(Problem::field(
                Kind::Invalid,
                "/q",
                "is needed, or a hashtag",
            ));
        }
        for (time, pointer) in [(self.from, "/from"), (self.to, "/to")] {
            // RFC 3339 has no other years, and Postgres not all of those that a parser takes.
            if time.is_some_and(|time| !(0..=9_999).contains(&time.year())) {
                return Err(Problem::field(
                    Kind::Invalid,
                    pointer,
                    "has a year of four digits",
                ));
            }
        }
        let order = match Word::if_any(self.order, "/order")? {
            None | Some(SearchOrder::Best) => model::Order::Best,
            Some(SearchOrder::Newest) => model::Order::Newest,
        };
        Ok(model::Search {
            words: self.q,
            kind: Word::if_any(self.kind, "/kind")?.map(Into::into),
            author: self.author.map(UserId),
            hashtag: self.hashtag,
            language: self.language,
            place: self.place,
            from: self.from,
            to: self.to,
            order,
        })
    }
}
