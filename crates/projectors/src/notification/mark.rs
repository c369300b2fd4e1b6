//! How far an owner has read: not history, so it is kept beside the read models and no law is about it.

use events::id::Position;
use service::db::TenantTx;

use crate::page::Viewer;

/// Up to where the viewer has read all.
pub async fn position(tx: &mut TenantTx, viewer: Viewer) -> sqlx::Result<Position> {
    let mark = sqlx::query_scalar(
        "SELECT position FROM accounts.read_marks WHERE tenant = $1 AND owner = $2",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(mark.unwrap_or(Position::START))
}

/// Says that the viewer has read all up to `position`. What was read stays so, and what has not come cannot be read.
pub async fn read_up_to(tx: &mut TenantTx, viewer: Viewer, position: Position) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO accounts.read_marks AS m (tenant, owner, position)
        SELECT $1, $2, least($3, b.newest) FROM notification.bundle b
        WHERE b.tenant = $1 AND b.owner = $2
        ORDER BY b.newest DESC LIMIT 1
        ON CONFLICT (tenant, owner) DO UPDATE SET position = excluded.position
        WHERE m.position < excluded.position",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(position)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
