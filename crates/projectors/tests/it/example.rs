//! How many public posts each author has: the read model that docs/add-a-read-model.md adds.

use std::sync::Arc;

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::Visibility;
use events::id::{PostId, TenantId, UserId};
use futures::FutureExt;
use futures::future::BoxFuture;
use projectors::registry::Projection;
use projectors::rows::{Row, Rows, Tally, row, tally};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::laws;

/// The tables. A post is a row of its own, so that its facts can be told apart; an author's posts have many lanes, and each lane
/// its own part of the sum.
const DDL: &str = "
CREATE TABLE post (
    tenant uuid NOT NULL,
    post   uuid NOT NULL,
    author uuid NOT NULL,
    public boolean NOT NULL,
    PRIMARY KEY (tenant, post)
);
CREATE TABLE published (
    tenant uuid NOT NULL,
    author uuid NOT NULL,
    lane   smallint NOT NULL,
    posts  bigint NOT NULL,
    PRIMARY KEY (tenant, author, lane)
);
SELECT projection.guard('post', 'shared'), projection.guard('published', 'shared');
";

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PostRow {
    tenant: TenantId,
    post: PostId,
    author: UserId,
    public: bool,
}

row!(
    PostRow in "post", key (tenant: TenantId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
    "ON CONFLICT (tenant, post) DO UPDATE SET public = EXCLUDED.public"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PublishedRow {
    tenant: TenantId,
    author: UserId,
    lane: i16,
    posts: i64,
}

row!(
    PublishedRow in "published", key (tenant: TenantId, author: UserId, lane: i16),
    "t.tenant = (k->>0)::uuid AND t.author = (k->>1)::uuid AND t.lane = (k->>2)::smallint",
    "ON CONFLICT (tenant, author, lane) DO UPDATE SET posts = EXCLUDED.posts"
);

impl Tally for PublishedRow {
    fn of((tenant, author, lane): Self::Key, posts: i64) -> Self {
        Self {
            tenant,
            author,
            lane,
            posts,
        }
    }

    fn count(&self) -> i64 {
        self.posts
    }
}

/// The post that a fact is about.
fn subject(fact: &Fact) -> Option<PostId> {
    Some(match fact {
        Fact::PostPublished(fact) => fact.post,
        Fact::PostEdited(fact) => fact.post,
        Fact::PostDeleted(fact) => fact.post,
        _ => return None,
    })
}

async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    // Read what the batch touches, fold it in memory, write what changed.
    let touched = batch
        .iter()
        .filter_map(|recorded| Some((recorded, (recorded.tenant, subject(&recorded.fact)?))));
    let mut posts = Rows::<PostRow>::load(touched.clone().map(|(_, key)| key), tx).await?;
    let mut lanes = std::collections::BTreeMap::new();
    for (recorded, key) in touched {
        lanes.insert(key, recorded.lane.number());
        let slot = posts.slot(key);
        match &recorded.fact {
            Fact::PostPublished(fact) => {
                *slot = Some(PostRow {
                    tenant: recorded.tenant,
                    post: fact.post,
                    author: fact.author,
                    public: fact.visibility == Visibility::Public,
                });
            }
            Fact::PostEdited(fact) => {
                if let (Some(post), Some(visibility)) = (slot, fact.visibility) {
                    post.public = visibility == Visibility::Public;
                }
            }
            _ => *slot = None,
        }
    }
    posts.store(tx).await?;
    // The sums move by what rows were and what they are.
    let counted = |post: &PostRow| {
        let key = (post.tenant, post.author, lanes[&post.key()]);
        post.public.then_some(key)
    };
    tally::<PublishedRow, _, _>(&posts, counted, tx).await
}

struct Prolific;

impl Projection for Prolific {
    fn name(&self) -> &'static str {
        "prolific"
    }

    fn version(&self) -> i32 {
        1
    }

    fn ddl(&self) -> &'static str {
        DDL
    }

    fn handles(&self, fact: &Fact) -> bool {
        subject(fact).is_some()
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(apply(batch, tx))
    }

    /// Nothing here is anyone's words.
    fn forget<'a>(
        &'a self,
        _: (TenantId, UserId),
        _: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<u64>> {
        async { Ok(0) }.boxed()
    }
}

#[test]
fn it_holds_the_laws() {
    laws::hold(|_| vec![Arc::new(Prolific)]);
}
