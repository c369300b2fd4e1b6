//! Posts that many look at at once. What all see alike of one is kept for a second; whether and how somebody sees it, for three, and it
//! is not used while the log says anything that may change it. So most looks at such a post ask nothing of the database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use events::envelope::Sealed;
use events::id::{PostId, TenantId, UserId};
use moka::future::Cache;
use projectors::feed::query::Look;
use projectors::page::Viewer;
use uuid::Uuid;

use super::post::Post;
use crate::live::hub;
use crate::problem::Problem;

/// How old what all see alike may be: how often a post was liked and what it says, not who may see it.
const ALIKE: Duration = Duration::from_secs(1);
/// How many such posts there may be.
const ALIKE_MAX: u64 = 10_000;
/// How old a look may be, whatever happens: the log's reader may have got stuck.
const LOOK: Duration = Duration::from_secs(3);
/// How many there may be.
const LOOKS_MAX: u64 = 50_000;
/// For so long after the log said something that changes looks they are asked for each time: longer than a look is kept, by what read
/// models may be behind.
const STIRRED: Duration = Duration::from_secs(10);
/// Of so many people and things that is known.
const STIRRED_MAX: u64 = 100_000;
/// What others do under a post changes nothing for those who look at it but figures.
const FIGURES: [&str; 8] = [
    "comment.added",
    "comment.edited",
    "comment.deleted",
    "reaction.added",
    "reaction.removed",
    "post.shared",
    "report.filed",
    "view.counted",
];

/// See the module.
pub(crate) struct Hot {
    posts: Cache<(TenantId, PostId), Arc<Post>>,
    looks: Cache<(TenantId, UserId, PostId), Look>,
    stirred: Cache<Uuid, ()>,
    /// Whether somebody reads the log.
    told: AtomicBool,
}

impl Default for Hot {
    fn default() -> Self {
        Self {
            posts: cache(ALIKE_MAX, ALIKE),
            looks: cache(LOOKS_MAX, LOOK),
            stirred: cache(STIRRED_MAX, STIRRED),
            told: AtomicBool::new(false),
        }
    }
}

fn cache<K, V>(most: u64, kept: Duration) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(most)
        .time_to_live(kept)
        .build()
}

impl Hot {
    /// A post as the viewer sees it, if that is known.
    pub(crate) async fn recall(&self, viewer: Viewer, post: PostId) -> Option<Post> {
        let shown = self.posts.get(&(viewer.tenant, post)).await?;
        let look = (viewer.tenant, viewer.user, post);
        let look = self.looks.get(&look).await?;
        let calm = self.told.load(Ordering::Relaxed)
            && !shown
                .concerns()
                .chain([viewer.user.0])
                .any(|id| self.stirred.contains_key(&id));
        calm.then(|| shown.seen(look))
    }

    /// A post as the viewer sees it, of whom a look is known now; what all see alike is asked for once, however many want it.
    pub(crate) async fn show(
        &self,
        viewer: Viewer,
        (post, look): (PostId, Look),
        ask: impl Future<Output = Result<Post, Problem>>,
    ) -> Result<Post, Problem> {
        // It was changed a moment ago: who has seen that must not see it as before.
        if self.stirred.contains_key(&post.0) {
            return Ok(ask.await?.seen(look));
        }
        let ask = async { ask.await.map(Arc::new) };
        let shown = self.posts.try_get_with((viewer.tenant, post), ask).await;
        let shown = shown.map_err(|problem| Problem::clone(&problem))?;
        let key = (viewer.tenant, viewer.user, post);
        self.looks.insert(key, look.clone()).await;
        Ok(shown.seen(look))
    }

    /// The log is read from now on, or not any more.
    pub(crate) fn told(&self, told: bool) {
        self.told.store(told, Ordering::Relaxed);
    }

    /// Notes what facts are about.
    pub(crate) async fn stir(&self, facts: &[Sealed]) {
        for fact in facts {
            let mut about = BTreeSet::from([fact.meta.actor.0]);
            if !FIGURES.contains(&&*fact.fact_type) {
                about.extend(hub::mentioned_in(fact));
            }
            for id in about {
                self.stirred.insert(id, ()).await;
            }
        }
    }
}
