//! First pages of feeds, as the API reads them.

use cli::bench::History;
use projectors::feed::query::{Post, page};
use projectors::page::{Page, Viewer};
use service::db::TenantTx;
use sqlx::PgPool;

use crate::live::viewer;

/// How many posts a page has.
pub(crate) const LIMIT: u32 = 20;
const VIEWERS: usize = 64;

/// Some whose feed has more than a page, by their numbers.
pub(crate) async fn viewers(pool: &PgPool, history: &History) -> Vec<(u64, Viewer)> {
    let mut found = vec![];
    for n in 0..history.size().users.into() {
        let viewer = viewer(history, history.user(n));
        let mut tx = begin(pool, viewer).await;
        if first(&mut tx, viewer).await.next.is_some() {
            found.push((n, viewer));
        }
        if found.len() == VIEWERS {
            break;
        }
    }
    assert!(!found.is_empty(), "nobody's feed has a page");
    found
}

/// A transaction of the viewer's.
pub(crate) async fn begin(pool: &PgPool, viewer: Viewer) -> TenantTx {
    TenantTx::begin(pool, viewer.tenant.0, viewer.user.0)
        .await
        .unwrap()
}

/// The first page of the viewer's feed.
pub(crate) async fn first(tx: &mut TenantTx, viewer: Viewer) -> Page<Post> {
    page(tx, viewer, None, LIMIT).await.unwrap()
}
