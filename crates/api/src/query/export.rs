//! `GET /users/me/export`: all that is kept about whoever asks, as lines.

use std::io;

use accounts::{ApiKey, Kept, KeptSession, Plan};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use events::export::own::{OwnFact, own_fact};
use events::id::{Position, TenantId, UserId};
use events::store::{About, Filter, Limits, Page, bounds};
use futures::{StreamExt, stream};
use projectors::graph::query::{self as graph, Profile};
use projectors::page::Viewer;
use projectors::usage::query::{self as usage, Taken};
use serde::{Deserialize, Serialize};
use service::db::TenantTx;
use service::slots::Slot;
use utoipa::IntoParams;

use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// What is read of the log at a time, and so all that is held in memory.
const LIMITS: Limits = Limits {
    positions: 50_000,
    facts: 500,
    bytes: 1 << 20,
};

/// From where on.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// The first position, 1 when absent: to go on, the one after the last that came.
    #[param(value_type = Option<i64>, minimum = 1)]
    from: Option<String>,
}

/// A line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Fact(OwnFact),
    /// Nothing more up to there.
    Seen {
        position: Position,
    },
    Account(Kept),
    Session(KeptSession),
    ApiKey(ApiKey),
    Plan(Plan),
    Profile(Profile),
    Usage(Taken),
    /// That was all, up to there.
    End {
        position: Position,
    },
}

/// Export all that is kept about oneself
///
/// Lines of JSON, each with a `kind`. First, in the order of the log, a `fact` for everything one did, with what one wrote in the clear,
/// and for what others did that concerns oneself and that one may know of; now and then a `seen`, the position up to which there is
/// nothing more. Then what is kept besides: `account`, each `session` and `api_key`, `plan`, `profile`, `usage`. The last line is an
/// `end`; without it the export is not whole, as when the token ends before: ask again with `from`, the position after the last one
/// that came. Needs a token: no API key may do it. One at a time.
#[utoipa::path(get, path = "/users/me/export", tag = "users", params(ExportQuery),
    responses((status = 200, description = "Lines, the last of which is an `end`", content(
        (String = "application/x-ndjson", example = "{\"kind\":\"fact\",\"position\":2,\"type\":\"post.published\",\"own\":true,…}\n{\"kind\":\"end\",\"position\":9}\n")))))]
pub(crate) async fn export(
    State(state): State<ApiState>,
    who: Principal,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    who.must_be_a_person()?;
    let from = match &query.from {
        Some(text) => text.parse().ok(),
        None => Some(1),
    };
    let from = from.filter(|from| (1..Position::END.0).contains(from));
    let from =
        from.ok_or_else(|| Problem::field(Kind::Invalid, "/from", "is a position, from 1"))?;
    let place = state.exporting.take((who.tenant, who.user))?;
    let head = bounds(&state.pool).await?.head;
    let mut export = Export {
        _place: place,
        who,
        after: Position(from - 1),
        head,
        is_over: false,
        state,
    };
    // Before the first line an error can still be a problem.
    let first = export.facts().await?;
    let lines = stream::unfold((Some(first), export), async |(first, mut export)| {
        let lines = match first {
            Some(first) => Ok(first),
            None => export.next().await.transpose()?,
        };
        Some((lines, (None, export)))
    });
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (
            CONTENT_DISPOSITION,
            "attachment; filename=\"cinelog.ndjson\"",
        ),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    // Whoever compresses asks once more after the end.
    Ok((headers, Body::from_stream(lines.fuse())).into_response())
}

/// An export that is under way.
struct Export {
    _place: Slot<(TenantId, UserId)>,
    state: ApiState,
    /// Whose it is, until their token or session ends.
    who: Principal,
    /// Up to here all facts have been told.
    after: Position,
    /// The newest fact when it began.
    head: Position,
    is_over: bool,
}

impl Export {
    /// The next lines; none at the end, also of the token or of the process.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_over || self.state.clock.now() >= self.who.until {
            return Ok(None);
        }
        let holds = self.state.still_holds(&self.who).await;
        if !holds.map_err(|problem| io::Error::other(format!("{problem:?}")))? {
            return Ok(None);
        }
        let shutdown = self.state.shutdown.clone();
        let more = async {
            if self.after < self.head {
                return self.facts().await;
            }
            self.is_over = true;
            self.rest().await
        };
        tokio::select! {
            lines = more => lines.map(Some).map_err(|problem| io::Error::other(format!("{problem:?}"))),
            () = shutdown.cancelled() => Ok(None),
        }
    }

    /// The facts of the next stretch of the log.
    async fn facts(&mut self) -> Result<Bytes, Problem> {
        let filter = Filter {
            tenant: Some(self.who.tenant),
            about: About::Person(self.who.user),
            ..Filter::default()
        };
        let Page { facts, seen, .. } = self.state.log.page(self.after, &filter, LIMITS).await?;
        let mut lines = vec![];
        for fact in self.state.log.open_facts(facts).await? {
            let own = own_fact(fact, self.who.user).map_err(|error| Problem::internal(&error))?;
            lines.extend(own.map(Line::Fact));
        }
        self.after = seen;
        lines.push(Line::Seen { position: seen });
        written(&lines)
    }

    /// What is kept besides the log.
    async fn rest(&mut self) -> Result<Bytes, Problem> {
        let (tenant, user) = (self.who.tenant, self.who.user);
        let accounts = &self.state.accounts;
        let mut lines = vec![];
        if let Some((account, sessions)) = accounts.kept(tenant.0, user.0).await? {
            lines.push(Line::Account(account));
            lines.extend(sessions.into_iter().map(Line::Session));
        }
        let keys = accounts.api_keys(tenant.0, user.0).await?;
        lines.extend(keys.into_iter().map(Line::ApiKey));
        lines.push(Line::Plan(accounts.plan(tenant.0, user.0).await?));
        let viewer = Viewer { tenant, user };
        let mut tx = TenantTx::begin(&self.state.pool, tenant.0, user.0).await?;
        let profile = graph::profile(&mut tx, viewer, user).await?;
        lines.extend(profile.map(Line::Profile));
        lines.push(Line::Usage(usage::own(&mut tx, viewer).await?));
        lines.push(Line::End {
            position: self.after,
        });
        written(&lines)
    }
}

fn written(lines: &[Line]) -> Result<Bytes, Problem> {
    let mut text = vec![];
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(|error| Problem::internal(&error))?;
        text.push(b'\n');
    }
    Ok(text.into())
}
