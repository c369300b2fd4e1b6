//! How hot a post is: `log10(points) + seconds / 45,000`, as link aggregators rank. A reaction is a point, a comment two, a share
//! three. Time is in the number, so nothing is rewritten as it goes by.

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{PostId, TenantId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::post;
use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HotRow {
    tenant: TenantId,
    post: PostId,
    points: i64,
    seconds: i64,
    hot: f64,
}

impl HotRow {
    #[expect(
        clippy::cast_precision_loss,
        reason = "nobody has 2^52 points, and no time is so far away"
    )]
    fn rank(&mut self) {
        self.hot = (self.points.max(1) as f64).log10() + self.seconds as f64 / TENFOLD;
    }
}

row!(
    HotRow in "hot", key (tenant: TenantId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
    "ON CONFLICT (tenant, post) DO UPDATE SET points = EXCLUDED.points, hot = EXCLUDED.hot"
);

/// Ten times the points weigh as much as so many seconds.
const TENFOLD: f64 = 45_000.0;

/// A post, and what a fact gives it or takes.
fn points(fact: &Fact) -> Option<(PostId, i64)> {
    Some(match fact {
        Fact::PostPublished(fact) => (fact.post, 0),
        Fact::PostDeleted(fact) => (fact.post, 0),
        Fact::ReactionAdded(fact) if fact.comment.is_none() => (fact.post, 1),
        Fact::ReactionRemoved(fact) if fact.comment.is_none() => (fact.post, -1),
        Fact::CommentAdded(fact) => (fact.post, 2),
        Fact::CommentDeleted(fact) => (fact.post, -2),
        Fact::PostShared(fact) => (fact.post, 3),
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    points(fact).is_some()
}

/// The rows that a batch changes; not written yet.
pub(super) async fn fold(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<Rows<HotRow>> {
    let touched = batch
        .iter()
        .filter_map(|recorded| points(&recorded.fact).map(|(post, more)| (recorded, post, more)));
    let keys = touched.clone().map(|(recorded, post, _)| (recorded, post));
    let mut rows = Rows::<HotRow>::load(post::existing(keys), tx).await?;
    for (recorded, post, more) in touched {
        let slot = rows.slot((recorded.tenant, post));
        match &recorded.fact {
            Fact::PostPublished(_) => {
                *slot = Some(HotRow {
                    tenant: recorded.tenant,
                    post,
                    points: 0,
                    seconds: recorded.recorded_at.timestamp(),
                    hot: 0.0,
                });
            }
            Fact::PostDeleted(_) => *slot = None,
            _ => {}
        }
        if let Some(row) = slot {
            row.points += more;
            row.rank();
        }
    }
    Ok(rows)
}
