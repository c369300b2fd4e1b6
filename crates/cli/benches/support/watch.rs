//! Authors who post at a pace, and a reader of all of them who looks at the feed all the time.

use std::collections::BTreeMap;
use std::time::Duration;

use events::fact::Fact;
use events::fact::pair::FollowStarted;
use events::fact::post::{PostPublished, Visibility};
use events::id::{CommandId, PostId, StreamKey, TenantId, UserId};
use events::store::{Append, Command, Expected, Log};
use projectors::feed::query::page;
use projectors::page::Viewer;
use service::db::TenantTx;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

const AUTHORS: u32 = 64;
/// How often the reader looks; half of it is in every wait.
const LOOK: Duration = Duration::from_millis(1);
/// How long the last post may take.
const LIMIT: Duration = Duration::from_mins(1);

/// The authors, and their reader.
#[derive(Clone)]
pub(crate) struct Watch {
    log: Log,
    api: PgPool,
    tenant: TenantId,
}

impl Watch {
    /// They, once the reader follows all of them.
    pub(crate) async fn new(log: &Log, api: &PgPool) -> Self {
        let tenant = log.default_tenant().await.unwrap();
        let watch = Self {
            log: log.clone(),
            api: api.clone(),
            tenant,
        };
        for author in 0..AUTHORS {
            watch.follow(reader(), user("author", author)).await;
        }
        watch
    }

    pub(crate) async fn follow(&self, follower: UserId, followee: UserId) {
        let stream = StreamKey::follow(follower, followee);
        let fact = FollowStarted { follower, followee };
        self.append(follower, stream, fact.into()).await;
    }

    /// Publishes a post of `author`.
    pub(crate) async fn publish(&self, author: UserId, post: PostId) {
        let fact = PostPublished {
            post,
            author,
            text: "Hoy hemos rodado la última escena de la noche en la playa. #cine".into(),
            place: None,
            location: None,
            language: Some("es".to_owned()),
            assets: vec![],
            visibility: Visibility::Public,
        };
        self.append(author, StreamKey::post(post), fact.into())
            .await;
    }

    async fn append(&self, actor: UserId, stream: StreamKey, fact: Fact) {
        let command = Command {
            id: CommandId {
                tenant: self.tenant,
                actor,
                route: "bench".to_owned(),
                key: stream.stream.clone(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let append = Append {
            stream,
            expected: Expected::NoStream,
            facts: vec![fact],
        };
        self.log.append(&command, vec![append]).await.unwrap();
    }

    /// Has `posts` posts published, `apart` from each other, and gives how long after it was due each was in the feed.
    pub(crate) async fn watch(&self, posts: u32, apart: Duration) -> Vec<Duration> {
        let run = Uuid::now_v7();
        let id = move |n: u32| PostId(Uuid::new_v5(&run, &n.to_be_bytes()));
        let begun = Instant::now() + Duration::from_millis(20);
        let (watch, shutdown) = (self.clone(), Shutdown::new());
        shutdown.spawn(async move {
            let mut running = JoinSet::new();
            for n in 0..posts {
                tokio::time::sleep_until(begun + apart * n).await;
                let watch = watch.clone();
                let author = user("author", n % AUTHORS);
                running.spawn(async move { watch.publish(author, id(n)).await });
            }
            running.join_all().await;
        });
        let mut unseen: BTreeMap<PostId, u32> = (0..posts).map(|n| (id(n), n)).collect();
        let mut waits = vec![];
        while let Some(oldest) = unseen.values().min() {
            let due = begun.elapsed().as_micros() / apart.as_micros();
            let due = u32::try_from(due).unwrap().min(posts);
            for post in self.newest(due.saturating_sub(*oldest) + 32).await {
                if let Some(n) = unseen.remove(&post) {
                    waits.push((begun + apart * n).elapsed());
                }
            }
            let limit = apart * posts + LIMIT;
            assert!(
                begun.elapsed() < limit,
                "{} posts do not come",
                unseen.len()
            );
            tokio::time::sleep(LOOK).await;
        }
        shutdown.finish(LIMIT).await;
        waits
    }

    async fn newest(&self, limit: u32) -> Vec<PostId> {
        let viewer = Viewer {
            tenant: self.tenant,
            user: reader(),
        };
        let mut tx = TenantTx::begin(&self.api, viewer.tenant.0, viewer.user.0)
            .await
            .unwrap();
        let page = page(&mut tx, viewer, None, limit).await.unwrap();
        page.items.into_iter().map(|post| post.post).collect()
    }
}

/// The `n`-th user of a sort.
pub(crate) fn user(sort: &str, n: u32) -> UserId {
    UserId::of("bench", &format!("{sort} {n}"))
}

fn reader() -> UserId {
    user("reader", 0)
}
