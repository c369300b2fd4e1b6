//! `GET /facts`: the log itself, for the data team. Facts come as stored, so personal fields stay encrypted.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use events::envelope::Sealed;
use events::export::ndjson;
use events::fact::Fact;
use events::id::{Position, TenantId, UserId};
use events::store::{Filter, Limits, Page, Tail};
use serde::Deserialize;
use service::slots::Slot;
use utoipa::IntoParams;

use crate::auth::{Principal, Role};
use crate::live;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;
/// Bytes of payload in an answer; a page ends early rather than grow beyond.
const BYTES: i64 = 4 << 20;
/// How far one answer looks for facts of rare types; there is a next page then.
const POSITIONS: i64 = 50_000;
/// How long the log may be silent before it is asked again.
const SILENCE: Duration = Duration::from_secs(30);

/// Which facts.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FactsQuery {
    /// The first position, 1 when absent.
    #[param(value_type = Option<i64>, minimum = 1)]
    from: Option<String>,
    /// Only facts of these types, separated by commas.
    #[param(example = "post.published,post.deleted")]
    r#type: Option<String>,
    /// How many facts at most, 1 to 1000; 100 when absent. A live stream has no limit.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

/// What is asked for, checked.
struct Asked {
    after: Position,
    limit: i64,
    filter: Filter,
}

/// Read facts in the order of the log
///
/// A line of JSON per fact, for the roles `data` (facts of the own tenant) and `data_global`. There is more while there
/// is a `Link: rel="next"`; a page may be short or empty before. With `Accept: text/event-stream` the facts come as
/// events, new ones as they happen, until the token ends; an event's id is the position, so `Last-Event-ID` goes on
/// after it. Positions that the log no longer holds are the problem `position-too-old`, 410.
#[utoipa::path(get, path = "/facts", tag = "facts",
    params(FactsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was taken.")),
    responses((status = 200, description = "Facts, a line each, or events", content(
        (String = "application/x-ndjson"), (String = "text/event-stream")))))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    who: Principal,
    headers: HeaderMap,
    Query(query): Query<FactsQuery>,
) -> Result<Response, Problem> {
    let tenant = scope(&who)?;
    let mut asked = asked(&query, tenant)?;
    if !wants_events(&headers) {
        let page = state
            .log
            .page(asked.after, &asked.filter, asked.limits())
            .await?;
        return answer(&asked, &page);
    }
    if let Some(last) = live::last_event(&headers)? {
        asked.after = last;
    }
    let place = live::place(&state, (who.tenant, who.user))?;
    follow(state, &who, asked, place).await
}

/// Whose facts may be read; none: everybody's.
fn scope(who: &Principal) -> Result<Option<TenantId>, Problem> {
    if who.roles.contains(&Role::DataGlobal) {
        Ok(None)
    } else if who.roles.contains(&Role::Data) {
        Ok(Some(who.tenant))
    } else {
        Err(Problem::from(Kind::Forbidden).detail("facts are for the roles data and data_global"))
    }
}

fn asked(query: &FactsQuery, tenant: Option<TenantId>) -> Result<Asked, Problem> {
    let invalid = |pointer: &str, why: &str| Problem::field(Kind::Invalid, pointer, why);
    let number = |text: &Option<String>, default: i64| match text {
        Some(text) => text.parse().ok(),
        None => Some(default),
    };
    let from = number(&query.from, 1).filter(|from| (1..Position::END.0).contains(from));
    let limit = number(&query.limit, LIMIT_DEFAULT).filter(|n| (1..=LIMIT_MAX).contains(n));
    let types: Vec<String> = match &query.r#type {
        Some(text) => text.split(',').map(str::to_owned).collect(),
        None => vec![],
    };
    if !types.iter().all(|name| Fact::is_type(name)) {
        return Err(invalid(
            "/type",
            "is a list of types of facts, such as post.published,post.deleted",
        ));
    }
    let from = from.ok_or_else(|| invalid("/from", "is a position, from 1"))?;
    Ok(Asked {
        after: Position(from - 1),
        limit: limit.ok_or_else(|| invalid("/limit", "is a number from 1 to 1000"))?,
        filter: Filter {
            types,
            tenant,
            ..Filter::default()
        },
    })
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

impl Asked {
    fn limits(&self) -> Limits {
        Limits {
            positions: POSITIONS,
            facts: self.limit,
            bytes: BYTES,
        }
    }
}

fn answer(asked: &Asked, page: &Page) -> Result<Response, Problem> {
    let mut lines = Vec::new();
    for fact in &page.facts {
        ndjson::write_line(fact, &mut lines).map_err(|error| Problem::internal(&error))?;
    }
    let media_type = HeaderValue::from_static("application/x-ndjson");
    let mut response = ([(CONTENT_TYPE, media_type)], lines).into_response();
    if page.seen < page.head {
        let mut next = format!("/v1/facts?from={}&limit={}", page.seen.next(), asked.limit);
        if !asked.filter.types.is_empty() {
            next.push_str("&type=");
            next.push_str(&asked.filter.types.join(","));
        }
        if let Ok(link) = HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

async fn follow(
    state: ApiState,
    who: &Principal,
    mut asked: Asked,
    place: Slot<(TenantId, UserId)>,
) -> Result<Response, Problem> {
    asked.limit = LIMIT_DEFAULT;
    let limits = asked.limits();
    let mut tail = state
        .log
        .tail(state.wake(), asked.filter, limits, asked.after);
    // Before the stream begins an error can still be a problem.
    let waiting = tail.next(Duration::ZERO).await?.facts.into();
    let watch = Watch {
        _place: place,
        tail,
        waiting,
    };
    Ok(live::events(&state, who, watch))
}

/// A reader that stays.
struct Watch {
    _place: Slot<(TenantId, UserId)>,
    tail: Tail,
    waiting: VecDeque<Sealed>,
}

impl live::Watch for Watch {
    /// The next fact; none when the log does not answer: clients come again by themselves, and are told then.
    async fn next(&mut self) -> Option<Event> {
        let fact = loop {
            if let Some(fact) = self.waiting.pop_front() {
                break fact;
            }
            match self.tail.next(SILENCE).await {
                Ok(page) => self.waiting = page.facts.into(),
                Err(error) => {
                    tracing::warn!(%error, "a reader of facts has to come again");
                    return None;
                }
            }
        };
        let event = Event::default().event("fact").id(fact.position.to_string());
        Some(event.data(ndjson::line(&fact).ok()?))
    }
}
