//! Comments, reactions and counts from the facts under a post, which all have the post's lane.

use chrono::{DateTime, Utc};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::CommentAdded;
use events::id::{CommentId, Position, PostId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{COMMENT, SHARE, VIEW};
use crate::post::target;
use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct CommentRow {
    tenant: TenantId,
    comment: CommentId,
    post: PostId,
    author: UserId,
    parent: Option<CommentId>,
    text: Option<String>,
    deleted: bool,
    position: Position,
    created_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
}

row!(
    CommentRow in "comment", key (tenant: TenantId, comment: CommentId),
    "t.tenant = (k->>0)::uuid AND t.comment = (k->>1)::uuid",
    "ON CONFLICT (tenant, comment) DO UPDATE SET
        text = EXCLUDED.text, deleted = EXCLUDED.deleted, edited_at = EXCLUDED.edited_at"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct ReactionRow {
    tenant: TenantId,
    target: Uuid,
    user: UserId,
    kind: String,
    position: Position,
}

row!(
    ReactionRow in "reaction", key (tenant: TenantId, target: Uuid, user: UserId),
    "t.tenant = (k->>0)::uuid AND t.target = (k->>1)::uuid AND t.\"user\" = (k->>2)::uuid",
    "ON CONFLICT (tenant, target, \"user\") DO UPDATE SET kind = EXCLUDED.kind, position = EXCLUDED.position"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct TallyRow {
    tenant: TenantId,
    target: Uuid,
    kind: String,
    n: i64,
}

row!(
    TallyRow in "tally", key (tenant: TenantId, target: Uuid, kind: String),
    "t.tenant = (k->>0)::uuid AND t.target = (k->>1)::uuid AND t.kind = k->>2",
    "ON CONFLICT (tenant, target, kind) DO UPDATE SET n = EXCLUDED.n"
);

pub(super) fn handles(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::CommentAdded(_)
            | Fact::CommentEdited(_)
            | Fact::CommentDeleted(_)
            | Fact::ReactionAdded(_)
            | Fact::ReactionRemoved(_)
            | Fact::PostShared(_)
            | Fact::ViewCounted(_)
    )
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let mut model = Model::load(batch, tx).await?;
    for recorded in batch {
        model.fold(recorded);
    }
    model.comments.store(tx).await?;
    model.reactions.store(tx).await?;
    model.tallies.store(tx).await
}

pub(super) async fn forget(
    (tenant, author): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "UPDATE comment SET text = NULL WHERE tenant = $1 AND author = $2 AND text IS NOT NULL",
    )
    .bind(tenant)
    .bind(author)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

struct Model {
    comments: Rows<CommentRow>,
    reactions: Rows<ReactionRow>,
    tallies: Rows<TallyRow>,
}

impl Model {
    async fn load(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<Self> {
        let (mut comments, mut reactions, mut tallies) = (vec![], vec![], vec![]);
        for recorded in batch {
            let tenant = recorded.tenant;
            match &recorded.fact {
                Fact::CommentAdded(fact) => {
                    comments.push((tenant, fact.comment));
                    tallies.push((tenant, fact.post.0, COMMENT.to_owned()));
                }
                Fact::CommentEdited(fact) => comments.push((tenant, fact.comment)),
                Fact::CommentDeleted(fact) => {
                    comments.push((tenant, fact.comment));
                    tallies.push((tenant, fact.post.0, COMMENT.to_owned()));
                }
                Fact::ReactionAdded(fact) => {
                    let target = target(fact.post, fact.comment);
                    reactions.push((tenant, target, fact.user));
                    tallies.push((tenant, target, fact.kind.clone()));
                }
                Fact::ReactionRemoved(fact) => {
                    let target = target(fact.post, fact.comment);
                    reactions.push((tenant, target, fact.user));
                    tallies.push((tenant, target, fact.kind.clone()));
                }
                Fact::PostShared(fact) => tallies.push((tenant, fact.post.0, SHARE.to_owned())),
                Fact::ViewCounted(fact) => tallies.push((tenant, fact.post.0, VIEW.to_owned())),
                _ => {}
            }
        }
        Ok(Self {
            comments: Rows::load(comments, tx).await?,
            reactions: Rows::load(reactions, tx).await?,
            tallies: Rows::load(tallies, tx).await?,
        })
    }

    fn fold(&mut self, recorded: &Recorded) {
        let tenant = recorded.tenant;
        match &recorded.fact {
            Fact::CommentAdded(fact) => {
                *self.comments.slot((tenant, fact.comment)) = Some(added(recorded, fact));
                self.count(tenant, fact.post.0, COMMENT, 1);
            }
            Fact::CommentEdited(fact) => {
                if let Some(comment) = self.comments.get_mut((tenant, fact.comment)) {
                    comment.text = fact.text.text().map(str::to_owned);
                    comment.edited_at = Some(recorded.recorded_at);
                }
            }
            Fact::CommentDeleted(fact) => {
                if let Some(comment) = self.comments.get_mut((tenant, fact.comment)) {
                    comment.deleted = true;
                    comment.text = None;
                    self.count(tenant, fact.post.0, COMMENT, -1);
                }
            }
            Fact::ReactionAdded(fact) => {
                let target = target(fact.post, fact.comment);
                let (user, kind, position) = (fact.user, fact.kind.clone(), recorded.position);
                *self.reactions.slot((tenant, target, user)) = Some(ReactionRow {
                    tenant,
                    target,
                    user,
                    kind,
                    position,
                });
                self.count(tenant, target, &fact.kind, 1);
            }
            Fact::ReactionRemoved(fact) => {
                let target = target(fact.post, fact.comment);
                *self.reactions.slot((tenant, target, fact.user)) = None;
                self.count(tenant, target, &fact.kind, -1);
            }
            Fact::PostShared(fact) => self.count(tenant, fact.post.0, SHARE, 1),
            Fact::ViewCounted(fact) => self.count(tenant, fact.post.0, VIEW, fact.views.into()),
            _ => {}
        }
    }

    fn count(&mut self, tenant: TenantId, target: Uuid, kind: &str, more: i64) {
        let slot = self.tallies.slot((tenant, target, kind.to_owned()));
        let n = slot.as_ref().map_or(0, |tally| tally.n) + more;
        *slot = (n > 0).then(|| TallyRow {
            tenant,
            target,
            kind: kind.to_owned(),
            n,
        });
    }
}

fn added(recorded: &Recorded, fact: &CommentAdded) -> CommentRow {
    CommentRow {
        tenant: recorded.tenant,
        comment: fact.comment,
        post: fact.post,
        author: fact.author,
        parent: fact.parent,
        text: fact.text.text().map(str::to_owned),
        deleted: false,
        position: recorded.position,
        created_at: recorded.recorded_at,
        edited_at: None,
    }
}
