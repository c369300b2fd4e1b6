//! What the viewer takes up.

use serde::Serialize;
use service::db::TenantTx;
use uuid::Uuid;

use crate::page::Viewer;

/// The read models that these queries read.
pub const READS: &[&str] = &["usage"];

/// What an owner takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Taken {
    /// Assets that are not deleted.
    pub assets: i64,
    /// Bytes of their originals.
    pub original_bytes: i64,
    /// Bytes of what was made from them.
    pub derived_bytes: i64,
    /// CPU time that making it took, of deleted assets too, milliseconds.
    pub cpu_ms: i64,
}

/// What the viewer's own assets take up.
pub async fn own(tx: &mut TenantTx, viewer: Viewer) -> sqlx::Result<Taken> {
    sqlx::query_as(
        "SELECT COALESCE(sum(assets), 0)::bigint AS assets,
            COALESCE(sum(original_bytes), 0)::bigint AS original_bytes,
            COALESCE(sum(derived_bytes), 0)::bigint AS derived_bytes,
            COALESCE(sum(cpu_ms), 0)::bigint AS cpu_ms
        FROM usage.total WHERE tenant = $1 AND owner = $2",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .fetch_one(&mut **tx)
    .await
}

/// Bytes that the viewer takes up or has reserved, and how many assets reserve them: of `open`, each with its bytes, those count that
/// this read model does not know yet.
pub async fn taken(
    tx: &mut TenantTx,
    viewer: Viewer,
    open: &[(Uuid, i64)],
) -> sqlx::Result<(i64, i64)> {
    let (assets, bytes): (Vec<Uuid>, Vec<i64>) = open.iter().copied().unzip();
    sqlx::query_as(
        "SELECT ((SELECT COALESCE(sum(original_bytes + derived_bytes), 0) FROM usage.total WHERE tenant = $1 AND owner = $2)
            + COALESCE(sum(o.bytes), 0))::bigint, count(*)
        FROM unnest($3::uuid[], $4::bigint[]) AS o(asset, bytes)
        WHERE NOT EXISTS (SELECT FROM usage.asset a WHERE a.tenant = $1 AND a.asset = o.asset)",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(assets)
    .bind(bytes)
    .fetch_one(&mut **tx)
    .await
}

/// Whether the viewer's asset is counted, or was until it was deleted.
pub async fn knows(tx: &mut TenantTx, viewer: Viewer, asset: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM usage.asset WHERE tenant = $1 AND asset = $2)")
        .bind(viewer.tenant)
        .bind(asset)
        .fetch_one(&mut **tx)
        .await
}
