//! `GET /moderation/queue`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use events::id::UserId;
use projectors::moderation::query as model;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Person, Reader, View};
use crate::cursor::{Page, PageQuery, Paging};
use crate::problem::Problem;
use crate::state::ApiState;

/// The queue, what stands in it, and the names of those in it.
const READS: &[&str] = &["moderation", "feed", "engagement", "graph"];

/// A post or a comment that has open reports.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queued {
    post: Uuid,
    /// The comment on the post, when that was reported.
    comment: Option<Uuid>,
    author: Person,
    /// What it says; none once the author was erased.
    text: Option<String>,
    /// The media it shows, in order.
    assets: Vec<Uuid>,
    /// How many open reports there are.
    reports: i64,
    /// The newest of them, up to three.
    newest: Vec<Report>,
    /// The first one's position.
    first: i64,
    /// The last one's position.
    last: i64,
}

/// Why someone wants it looked at.
#[derive(Serialize, ToSchema)]
pub(crate) struct Report {
    by: Person,
    /// `spam`, `harassment`, `hate`, `violence`, `sexual`, `illegal` or `other`.
    reason: String,
    /// In the reporter's words.
    text: Option<String>,
    position: i64,
}

/// List what has open reports
///
/// For the role moderator. The longest waiting first; hiding or restoring closes the reports.
#[utoipa::path(get, path = "/moderation/queue", tag = "moderation", params(PageQuery),
    responses((status = 200, description = "A page of posts and comments", body = Page<Queued>)))]
pub(crate) async fn queue(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    reader.must_moderate()?;
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, READS).await?;
    view.tx.as_moderator().await?;
    let page = model::queue(&mut view.tx, view.viewer, after, paging.limit).await?;
    let items = view.queued(page.items).await?;
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

impl View {
    async fn queued(&mut self, queued: Vec<model::Queued>) -> Result<Vec<Queued>, Problem> {
        let targets: Vec<Uuid> = queued.iter().map(|one| one.target).collect();
        let reports = model::reports(&mut self.tx, self.viewer, &targets).await?;
        let authors = queued.iter().map(|one| one.author);
        let users: Vec<UserId> = authors.chain(reports.iter().map(|one| one.user)).collect();
        let people = self.people(&users).await?;
        let mut newest: BTreeMap<Uuid, Vec<Report>> = BTreeMap::new();
        for report in reports {
            newest.entry(report.target).or_default().push(Report {
                by: people.mention(report.user),
                reason: report.reason,
                text: report.text,
                position: report.position.0,
            });
        }
        let shown = queued.into_iter().map(|one| Queued {
            post: one.post.0,
            comment: one.comment.map(|comment| comment.0),
            author: people.mention(one.author),
            text: one.text,
            assets: one.assets.into_iter().map(|asset| asset.0).collect(),
            reports: one.reports,
            newest: newest.remove(&one.target).unwrap_or_default(),
            first: one.first.0,
            last: one.last.0,
        });
        Ok(shown.collect())
    }
}
