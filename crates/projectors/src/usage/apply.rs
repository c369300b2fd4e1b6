//! Sums per owner from the facts of assets: what an asset takes up is a row, and sums move by what rows change.

use std::collections::{BTreeMap, BTreeSet};

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{AssetId, Lane, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct AssetRow {
    tenant: TenantId,
    asset: AssetId,
    owner: UserId,
    original_bytes: i64,
    derived: BTreeMap<String, i64>,
    cpu_ms: i64,
}

row!(
    AssetRow in "asset", key (tenant: TenantId, asset: AssetId),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid",
    "ON CONFLICT (tenant, asset) DO UPDATE SET
        original_bytes = EXCLUDED.original_bytes, derived = EXCLUDED.derived, cpu_ms = EXCLUDED.cpu_ms"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct TotalRow {
    tenant: TenantId,
    owner: UserId,
    lane: Lane,
    assets: i64,
    original_bytes: i64,
    derived_bytes: i64,
    cpu_ms: i64,
}

row!(
    TotalRow in "total", key (tenant: TenantId, owner: UserId, lane: Lane),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.lane = (k->>2)::smallint",
    "ON CONFLICT (tenant, owner, lane) DO UPDATE SET
        assets = EXCLUDED.assets, original_bytes = EXCLUDED.original_bytes, derived_bytes = EXCLUDED.derived_bytes,
        cpu_ms = EXCLUDED.cpu_ms"
);

fn subject(fact: &Fact) -> Option<AssetId> {
    Some(match fact {
        Fact::UploadCompleted(fact) => fact.asset,
        Fact::RenditionCompleted(fact) => fact.asset,
        Fact::RenditionFailed(fact) => fact.asset,
        Fact::AssetDeleted(fact) => fact.asset,
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    subject(fact).is_some()
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let mut lanes: BTreeMap<(TenantId, AssetId), Lane> = BTreeMap::new();
    for recorded in batch {
        if let Some(asset) = subject(&recorded.fact) {
            lanes.insert((recorded.tenant, asset), recorded.lane);
        }
    }
    let mut assets: Rows<AssetRow> = Rows::load(lanes.keys().copied(), tx).await?;
    for recorded in batch {
        fold(&mut assets, recorded);
    }
    let place =
        |row: &AssetRow| Some((row.tenant, row.owner, *lanes.get(&(row.tenant, row.asset))?));
    let changed: BTreeSet<_> = assets.changes().filter_map(|(_, is)| place(is?)).collect();
    let mut totals: Rows<TotalRow> = Rows::load(changed, tx).await?;
    for (was, is) in assets.changes() {
        let Some((is, (tenant, owner, lane))) = is.and_then(|is| Some((is, place(is)?))) else {
            continue;
        };
        let total = totals.slot((tenant, owner, lane)).get_or_insert(TotalRow {
            tenant,
            owner,
            lane,
            assets: 0,
            original_bytes: 0,
            derived_bytes: 0,
            cpu_ms: 0,
        });
        let more = |of: fn(&AssetRow) -> i64| of(is) - was.map_or(0, of);
        total.assets += more(|row| i64::from(!row.is_gone()));
        total.original_bytes += more(|row| row.original_bytes);
        total.derived_bytes += more(|row| row.derived.values().sum());
        total.cpu_ms += more(|row| row.cpu_ms);
    }
    assets.store(tx).await?;
    totals.store(tx).await
}

impl AssetRow {
    /// Whether it was deleted: an original is never empty.
    fn is_gone(&self) -> bool {
        self.original_bytes == 0
    }
}

fn fold(assets: &mut Rows<AssetRow>, recorded: &Recorded) {
    let tenant = recorded.tenant;
    match &recorded.fact {
        Fact::UploadCompleted(fact) => {
            *assets.slot((tenant, fact.asset)) = Some(AssetRow {
                tenant,
                asset: fact.asset,
                owner: fact.owner,
                original_bytes: signed(fact.bytes),
                derived: BTreeMap::new(),
                cpu_ms: 0,
            });
        }
        Fact::RenditionCompleted(fact) => {
            if let Some(asset) = assets.get_mut((tenant, fact.asset)) {
                asset.derived.insert(fact.name.clone(), signed(fact.bytes));
                asset.cpu_ms += signed(fact.cpu_ms.unwrap_or(0));
            }
        }
        Fact::RenditionFailed(fact) => {
            if let Some(asset) = assets.get_mut((tenant, fact.asset)) {
                asset.cpu_ms += signed(fact.cpu_ms.unwrap_or(0));
            }
        }
        Fact::AssetDeleted(fact) => {
            if let Some(asset) = assets.get_mut((tenant, fact.asset)) {
                asset.original_bytes = 0;
                asset.derived.clear();
            }
        }
        _ => {}
    }
}

/// The table's numbers have a sign; no store has as many bytes as that costs.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
