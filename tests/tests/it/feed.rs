//! The feed's entries are a cache: every page must be the one that the posts themselves give.

use events::id::{TenantId, UserId};
use projectors::feed::query;
use projectors::page::Viewer;
use service::db::TenantTx;
use sqlx::PgPool;

/// Walks the feed of every reader to its end, as the cache gives it and as the posts do, and returns how many posts
/// were seen.
pub(crate) async fn equals_the_posts(
    api: &PgPool,
    tenant: TenantId,
    readers: impl Iterator<Item = UserId>,
) -> usize {
    let mut seen = 0;
    for user in readers {
        let mut tx = TenantTx::begin(api, tenant.0, user.0).await.unwrap();
        let viewer = Viewer { tenant, user };
        let mut after = None;
        loop {
            let cached = query::page(&mut tx, viewer, after, 7).await.unwrap();
            let pulled = query::pull_page(&mut tx, viewer, after, 7).await.unwrap();
            assert_eq!(cached, pulled, "reader {user}, after {after:?}");
            seen += cached.items.len();
            after = cached.next;
            if after.is_none() {
                break;
            }
        }
    }
    seen
}
