//! Looks at posts, gathered for a while and then written as one fact per post: a fact per look would drown the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use events::decide;
use events::decide::post::PostState;
use events::id::{CommandId, PostId, StreamKey, TenantId, UserId};
use events::store::{Command, Emit, ExecuteError, Streams};
use uuid::Uuid;

use crate::state::ApiState;

/// How long looks are gathered.
const GATHER: Duration = Duration::from_secs(5);
/// So many looks wait at most; more are not counted.
const WAITING_MAX: usize = 100_000;

type Looks = HashMap<(TenantId, PostId), HashSet<UserId>>;

/// Looks that are not written yet.
#[derive(Default)]
pub(crate) struct Views {
    waiting: Mutex<(Looks, usize)>,
    started: OnceLock<()>,
}

impl Views {
    /// Notes that somebody looked at a post; each once until it is written.
    pub(crate) fn look(&self, state: &ApiState, post: (TenantId, PostId), who: UserId) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let (looks, count) = &mut *waiting;
            if *count < WAITING_MAX && looks.entry(post).or_default().insert(who) {
                *count += 1;
            }
        }
        self.started.get_or_init(|| {
            let (own, end) = (state.clone(), state.shutdown.clone());
            state.shutdown.spawn(async move {
                while end.sleep(GATHER).await {
                    own.views.write(&own).await;
                }
                own.views.write(&own).await;
            });
        });
    }

    async fn write(&self, state: &ApiState) {
        let (looks, _) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        for ((tenant, post), users) in looks {
            let views = u32::try_from(users.len()).unwrap_or(u32::MAX);
            if let Err(error) = count(state, tenant, post, views).await {
                tracing::warn!(%error, views, "looks at a post are not counted");
            }
        }
    }
}

async fn count(
    state: &ApiState,
    tenant: TenantId,
    post: PostId,
    views: u32,
) -> Result<(), ExecuteError> {
    let command = Command {
        id: CommandId {
            tenant,
            actor: UserId::of("cinelog", "views"),
            route: "views".to_owned(),
            key: Uuid::new_v4().to_string(),
        },
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let (key, about) = (StreamKey::views(post), StreamKey::post(post));
    let streams = [key.clone(), about.clone()];
    let decide = |streams: &Streams| {
        let post_state: PostState = streams.get(&about);
        Ok(Emit::all(
            &key,
            decide::share::count_views(&post_state, post, views)?,
        ))
    };
    state.log.execute(&command, &streams, decide).await?;
    Ok(())
}
