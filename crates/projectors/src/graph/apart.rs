//! Blocks and mutes from the facts of a pair.

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{Position, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct BlockRow {
    tenant: TenantId,
    owner: UserId,
    other: UserId,
    given: Option<Position>,
    received: Option<Position>,
}

row!(
    BlockRow in "block", key (tenant: TenantId, owner: UserId, other: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.other = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, other) DO UPDATE SET given = EXCLUDED.given, received = EXCLUDED.received"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct MuteRow {
    tenant: TenantId,
    owner: UserId,
    other: UserId,
    position: Position,
}

row!(
    MuteRow in "mute", key (tenant: TenantId, owner: UserId, other: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.other = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, other) DO UPDATE SET position = EXCLUDED.position"
);

/// Who blocks whom, and whether that is so after the fact.
fn blocks(fact: &Fact) -> Option<(UserId, UserId, bool)> {
    match fact {
        Fact::BlockStarted(fact) => Some((fact.blocker, fact.blocked, true)),
        Fact::BlockEnded(fact) => Some((fact.blocker, fact.blocked, false)),
        _ => None,
    }
}

/// Who mutes whom, and whether that is so after the fact.
fn mutes(fact: &Fact) -> Option<(UserId, UserId, bool)> {
    match fact {
        Fact::MuteStarted(fact) => Some((fact.muter, fact.muted, true)),
        Fact::MuteEnded(fact) => Some((fact.muter, fact.muted, false)),
        _ => None,
    }
}

pub(super) fn handles(fact: &Fact) -> bool {
    blocks(fact).is_some() || mutes(fact).is_some()
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let blocks = batch
        .iter()
        .filter_map(|recorded| Some((recorded, blocks(&recorded.fact)?)));
    let mutes = batch
        .iter()
        .filter_map(|recorded| Some((recorded, mutes(&recorded.fact)?)));
    let both = blocks.clone().flat_map(|(recorded, (one, other, _))| {
        [(one, other), (other, one)].map(|(owner, other)| (recorded.tenant, owner, other))
    });
    let own = mutes
        .clone()
        .map(|(recorded, (owner, other, _))| (recorded.tenant, owner, other));
    let mut blocked = Rows::<BlockRow>::load(both, tx).await?;
    let mut muted = Rows::<MuteRow>::load(own, tx).await?;
    for (recorded, (blocker, other, starts)) in blocks {
        let (tenant, since) = (recorded.tenant, starts.then_some(recorded.position));
        change(&mut blocked, (tenant, blocker, other), |row| {
            row.given = since;
        });
        change(&mut blocked, (tenant, other, blocker), |row| {
            row.received = since;
        });
    }
    for (recorded, (owner, other, starts)) in mutes {
        let (tenant, position) = (recorded.tenant, recorded.position);
        *muted.slot((tenant, owner, other)) = starts.then_some(MuteRow {
            tenant,
            owner,
            other,
            position,
        });
    }
    blocked.store(tx).await?;
    muted.store(tx).await
}

/// Changes one side's row, which is there as long as one of the two blocks the other.
fn change(
    rows: &mut Rows<BlockRow>,
    key: (TenantId, UserId, UserId),
    change: impl FnOnce(&mut BlockRow),
) {
    let (tenant, owner, other) = key;
    let slot = rows.slot(key);
    let mut row = slot.take().unwrap_or(BlockRow {
        tenant,
        owner,
        other,
        given: None,
        received: None,
    });
    change(&mut row);
    *slot = (row.given.is_some() || row.received.is_some()).then_some(row);
}
