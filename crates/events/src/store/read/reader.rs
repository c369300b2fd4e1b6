//! The whole log without a seam: what Postgres holds, and before its floor the archive, when there is one.

use service::db::TenantTx;
use sqlx::PgPool;
use uuid::Uuid;

use super::bulk::Bulk;
use super::{Bounds, Filter, Limits, LogError, Page, bounds, page};
use crate::archive::Archive;
use crate::id::Position;

/// Reads the log from any position forwards. Without an archive, positions below the floor are [`LogError::TooOld`].
#[derive(Debug)]
pub struct Reader {
    pool: PgPool,
    archive: Option<Archive>,
    bulk: Bulk,
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Self::new(self.pool.clone(), self.archive.clone())
    }
}

impl From<&PgPool> for Reader {
    fn from(pool: &PgPool) -> Self {
        Self::new(pool.clone(), None)
    }
}

impl Reader {
    /// A reader of the log that `pool` leads to.
    pub fn new(pool: PgPool, archive: Option<Archive>) -> Self {
        Self {
            pool,
            archive,
            bulk: Bulk::default(),
        }
    }

    /// What can be read. With an archive that is everything.
    pub async fn bounds(&self) -> Result<Bounds, LogError> {
        let bounds = bounds(&self.pool).await?;
        Ok(match self.archive {
            Some(_) => Bounds { floor: 1, ..bounds },
            None => bounds,
        })
    }

    /// The next facts after `after` that pass `filter`, see [`page`]. A page from the archive says of the head only that
    /// there is more.
    pub async fn page(
        &mut self,
        after: Position,
        filter: &Filter,
        limits: Limits,
    ) -> Result<Page, LogError> {
        let all = filter.is_all() && limits == Limits::BULK.within(limits.positions);
        let page = match filter.tenant {
            // For a tenant no more is in reach than what is theirs.
            Some(tenant) => {
                let mut tx = TenantTx::begin(&self.pool, tenant.0, Uuid::nil()).await?;
                let page = page(&mut *tx, after, filter, limits).await;
                tx.commit().await?;
                page
            }
            None if all => self.bulk.page(&self.pool, after, limits.positions).await,
            None => page(&self.pool, after, filter, limits).await,
        };
        match (page, &mut self.archive) {
            // The floor moves after the index was written: all that lies below it is in the archive.
            (Err(LogError::TooOld { floor, .. }), Some(archive)) => {
                let (facts, seen) = archive
                    .page(after, filter, limits, Position(floor - 1))
                    .await?;
                let head = Position(floor);
                Ok(Page { facts, seen, head })
            }
            (page, _) => page,
        }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}
