//! What the viewer takes up.

use serde::Serialize;
use service::db::TenantTx;

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
