//! The rows of the tables.

use events::envelope::Recorded;
use events::fact::user::NoticeKind;
use events::id::{CommentId, Position, PostId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rows::{Row, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PostRow {
    pub(super) tenant: TenantId,
    pub(super) post: PostId,
    pub(super) author: UserId,
}

row!(
    PostRow in "post", key (tenant: TenantId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
    ""
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CommentRow {
    pub(super) tenant: TenantId,
    pub(super) comment: CommentId,
    pub(super) author: UserId,
    pub(super) parent: Option<CommentId>,
    pub(super) answered: Option<UserId>,
    pub(super) deleted: bool,
}

row!(
    CommentRow in "comment", key (tenant: TenantId, comment: CommentId),
    "t.tenant = (k->>0)::uuid AND t.comment = (k->>1)::uuid",
    "ON CONFLICT (tenant, comment) DO UPDATE SET deleted = EXCLUDED.deleted"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct NoticeRow {
    pub(super) tenant: TenantId,
    pub(super) owner: UserId,
    pub(super) kind: NoticeKind,
    pub(super) target: Uuid,
    pub(super) actor: UserId,
    pub(super) source: Uuid,
    pub(super) post: Option<PostId>,
    pub(super) lane: i16,
    pub(super) position: Position,
}

row!(
    NoticeRow in "notice",
    key (tenant: TenantId, owner: UserId, kind: NoticeKind, target: Uuid, actor: UserId, source: Uuid),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.kind = k->>2 AND t.target = (k->>3)::uuid
        AND t.actor = (k->>4)::uuid AND t.source = (k->>5)::uuid",
    "ON CONFLICT (tenant, owner, kind, target, actor, source) DO UPDATE SET position = EXCLUDED.position"
);

impl NoticeRow {
    /// What the fact means to `owner`: `actor` did something of this kind.
    pub(super) fn of(
        recorded: &Recorded,
        owner: UserId,
        kind: NoticeKind,
        target: Uuid,
        actor: UserId,
    ) -> Self {
        Self {
            tenant: recorded.tenant,
            owner,
            kind,
            target,
            actor,
            source: actor.0,
            post: None,
            lane: recorded.lane.number(),
            position: recorded.position,
        }
    }

    /// The key of its bundle.
    pub(super) fn bundle(&self) -> <BundleRow as Row>::Key {
        (self.tenant, self.owner, self.kind, self.target, self.lane)
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BundleRow {
    pub(super) tenant: TenantId,
    pub(super) owner: UserId,
    pub(super) kind: NoticeKind,
    pub(super) target: Uuid,
    pub(super) lane: i16,
    pub(super) post: Option<PostId>,
    pub(super) newest: Position,
}

row!(
    BundleRow in "bundle",
    key (tenant: TenantId, owner: UserId, kind: NoticeKind, target: Uuid, lane: i16),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.kind = k->>2 AND t.target = (k->>3)::uuid
        AND t.lane = (k->>4)::smallint",
    "ON CONFLICT (tenant, owner, kind, target, lane) DO UPDATE SET newest = EXCLUDED.newest"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MutedRow {
    pub(super) tenant: TenantId,
    pub(super) owner: UserId,
    pub(super) kind: NoticeKind,
}

row!(
    MutedRow in "muted", key (tenant: TenantId, owner: UserId, kind: NoticeKind),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.kind = k->>2",
    ""
);
