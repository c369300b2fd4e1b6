//! Reports and what is hidden from the facts under a post, which all have the post's lane; suspensions from the facts of
//! a user.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::ReportFiled;
use events::id::{CommentId, Position, PostId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::post::target;
use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct ReportRow {
    tenant: TenantId,
    target: Uuid,
    user: UserId,
    reason: String,
    text: Option<String>,
    position: Position,
}

row!(
    ReportRow in "report", key (tenant: TenantId, target: Uuid, user: UserId),
    "t.tenant = (k->>0)::uuid AND t.target = (k->>1)::uuid AND t.\"user\" = (k->>2)::uuid",
    ""
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct QueueRow {
    tenant: TenantId,
    target: Uuid,
    post: PostId,
    comment: Option<CommentId>,
    reports: i64,
    first: Position,
    last: Position,
}

row!(
    QueueRow in "queue", key (tenant: TenantId, target: Uuid),
    "t.tenant = (k->>0)::uuid AND t.target = (k->>1)::uuid",
    "ON CONFLICT (tenant, target) DO UPDATE SET
        reports = EXCLUDED.reports, first = EXCLUDED.first, last = EXCLUDED.last"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct HiddenRow {
    tenant: TenantId,
    target: Uuid,
    reason: String,
    by: UserId,
    position: Position,
}

row!(
    HiddenRow in "hidden", key (tenant: TenantId, target: Uuid),
    "t.tenant = (k->>0)::uuid AND t.target = (k->>1)::uuid",
    "ON CONFLICT (tenant, target) DO UPDATE SET
        reason = EXCLUDED.reason, \"by\" = EXCLUDED.\"by\", position = EXCLUDED.position"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct SuspensionRow {
    tenant: TenantId,
    user: UserId,
    until: Option<DateTime<Utc>>,
    reason: String,
    by: UserId,
    position: Position,
}

row!(
    SuspensionRow in "suspension", key (tenant: TenantId, user: UserId),
    "t.tenant = (k->>0)::uuid AND t.\"user\" = (k->>1)::uuid",
    "ON CONFLICT (tenant, \"user\") DO UPDATE SET
        until = EXCLUDED.until, reason = EXCLUDED.reason, \"by\" = EXCLUDED.\"by\", position = EXCLUDED.position"
);

/// What a fact is about, here.
enum Touched {
    /// A post or a comment.
    Target(Uuid),
    /// A post and all comments on it.
    Post(PostId),
    User(UserId),
}

fn touched(fact: &Fact) -> Option<Touched> {
    Some(match fact {
        Fact::ReportFiled(fact) => Touched::Target(target(fact.post, fact.comment)),
        Fact::ContentHidden(fact) => Touched::Target(target(fact.post, fact.comment)),
        Fact::ContentRestored(fact) => Touched::Target(target(fact.post, fact.comment)),
        Fact::CommentDeleted(fact) => Touched::Target(fact.comment.0),
        Fact::PostDeleted(fact) => Touched::Post(fact.post),
        Fact::AccountSuspended(fact) => Touched::User(fact.user),
        Fact::AccountRestored(fact) => Touched::User(fact.user),
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    touched(fact).is_some()
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let mut model = Model::load(batch, tx).await?;
    for recorded in batch {
        model.fold(recorded);
    }
    model.reports.store(tx).await?;
    model.queue.store(tx).await?;
    model.hidden.store(tx).await?;
    model.suspensions.store(tx).await
}

pub(super) async fn forget(
    (tenant, reporter): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "UPDATE report SET text = NULL WHERE tenant = $1 AND \"user\" = $2 AND text IS NOT NULL",
    )
    .bind(tenant)
    .bind(reporter)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

struct Model {
    reports: Rows<ReportRow>,
    queue: Rows<QueueRow>,
    hidden: Rows<HiddenRow>,
    suspensions: Rows<SuspensionRow>,
}

impl Model {
    async fn load(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<Self> {
        let (mut targets, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let (mut reports, mut users) = (vec![], vec![]);
        for Recorded { tenant, fact, .. } in batch {
            match touched(fact) {
                Some(Touched::Target(target)) => drop(targets.insert((*tenant, target))),
                Some(Touched::Post(post)) => drop(gone.insert((*tenant, post))),
                Some(Touched::User(user)) => users.push((*tenant, user)),
                None => {}
            }
            if let Fact::ReportFiled(fact) = fact {
                reports.push((*tenant, target(fact.post, fact.comment), fact.reporter));
            }
        }
        let hidden = Rows::load(targets.iter().copied(), tx).await?;
        targets.extend(queued(&gone, tx).await?);
        Ok(Self {
            reports: Rows::load(reports, tx).await?,
            queue: Rows::load(targets, tx).await?,
            hidden,
            suspensions: Rows::load(users, tx).await?,
        })
    }

    fn fold(&mut self, recorded: &Recorded) {
        let (tenant, position) = (recorded.tenant, recorded.position);
        match &recorded.fact {
            Fact::ReportFiled(fact) => self.report(recorded, fact),
            Fact::ContentHidden(fact) => {
                let target = target(fact.post, fact.comment);
                *self.queue.slot((tenant, target)) = None;
                *self.hidden.slot((tenant, target)) = Some(HiddenRow {
                    tenant,
                    target,
                    reason: fact.reason.as_str().to_owned(),
                    by: fact.by,
                    position,
                });
            }
            Fact::ContentRestored(fact) => {
                let target = target(fact.post, fact.comment);
                *self.queue.slot((tenant, target)) = None;
                *self.hidden.slot((tenant, target)) = None;
            }
            Fact::CommentDeleted(fact) => *self.queue.slot((tenant, fact.comment.0)) = None,
            Fact::PostDeleted(fact) => self
                .queue
                .remove(|row| row.tenant == tenant && row.post == fact.post),
            Fact::AccountSuspended(fact) => {
                *self.suspensions.slot((tenant, fact.user)) = Some(SuspensionRow {
                    tenant,
                    user: fact.user,
                    until: fact.until,
                    reason: fact.reason.as_str().to_owned(),
                    by: fact.by,
                    position,
                });
            }
            Fact::AccountRestored(fact) => *self.suspensions.slot((tenant, fact.user)) = None,
            _ => {}
        }
    }

    fn report(&mut self, recorded: &Recorded, fact: &ReportFiled) {
        let (tenant, position) = (recorded.tenant, recorded.position);
        let target = target(fact.post, fact.comment);
        *self.reports.slot((tenant, target, fact.reporter)) = Some(ReportRow {
            tenant,
            target,
            user: fact.reporter,
            reason: fact.reason.as_str().to_owned(),
            text: fact
                .text
                .as_ref()
                .and_then(|text| text.text())
                .map(str::to_owned),
            position,
        });
        let slot = self.queue.slot((tenant, target));
        let before = slot.as_ref().map(|queued| (queued.reports, queued.first));
        let (reports, first) = before.unwrap_or((0, position));
        *slot = Some(QueueRow {
            tenant,
            target,
            post: fact.post,
            comment: fact.comment,
            reports: reports + 1,
            first,
            last: position,
        });
    }
}

/// What stands in the queue of posts that go, with the comments on them.
async fn queued(
    gone: &BTreeSet<(TenantId, PostId)>,
    tx: &mut PgConnection,
) -> sqlx::Result<Vec<(TenantId, Uuid)>> {
    if gone.is_empty() {
        return Ok(vec![]);
    }
    sqlx::query_as(
        "SELECT q.tenant, q.target FROM jsonb_array_elements($1) k
        JOIN queue q ON q.tenant = (k->>0)::uuid AND q.post = (k->>1)::uuid",
    )
    .bind(Json(gone))
    .fetch_all(tx)
    .await
}
