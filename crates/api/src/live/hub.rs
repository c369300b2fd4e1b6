//! Who waits for news in this process, and the one reader of the log that wakes them, and that tells what is kept of posts. At most one
//! event is kept for anybody: who is woken looks for themselves when the one before was taken, so that a slow reader misses nothing and
//! holds up nobody.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use events::envelope::Sealed;
use events::id::{Position, TenantId, UserId};
use events::store::{Filter, Limits};
use projectors::live::{Mentioned, READS, concerned};
use serde_json::Value;
use service::db::TenantTx;
use tokio::sync::watch;
use uuid::Uuid;

use crate::position::Place;
use crate::problem::Problem;
use crate::state::ApiState;

/// Facts that may bring a post into feeds.
const FEEDING: [&str; 5] = [
    "post.published",
    "post.edited",
    "asset.ready",
    "rendition.completed",
    "content.restored",
];
/// How much of the log is looked at in one go.
const BATCH: Limits = Limits {
    positions: 5_000,
    facts: 5_000,
    bytes: 8 << 20,
};
/// How long the log may be silent before it is asked again.
const SILENCE: Duration = Duration::from_secs(30);
/// After a failure everybody looks again; and how often it is seen whether read models that were behind have come.
const AGAIN: Duration = Duration::from_secs(1);
/// A log that grows all the time is read so often, not after each commit: reading it for two facts costs as much as for fifty.
const PACE: Duration = Duration::from_millis(20);

/// A user's streams wake together, and know up to where feeds are whole; none when that is not known.
type Users = HashMap<UserId, watch::Sender<Option<Position>>>;

/// Who waits, by tenant.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HashMap<TenantId, Users>>>);

/// A place among those who wait, given up when dropped.
pub(crate) struct Waiter {
    hub: Hub,
    who: (TenantId, UserId),
    /// None once dropped.
    news: Option<watch::Receiver<Option<Position>>>,
}

impl Waiter {
    /// Resolves when there may be news since the last time, with the position up to which feeds are whole, where that is known.
    pub(crate) async fn news(&mut self) -> Option<Position> {
        if let Some(news) = &mut self.news
            && news.changed().await.is_ok()
        {
            return *news.borrow_and_update();
        }
        // Nobody wakes any more: the process ends.
        std::future::pending().await
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut tenants = self.hub.lock();
        // Under the lock: of two that end at once, the second one is the last.
        self.news = None;
        let Some(users) = tenants.get_mut(&self.who.0) else {
            return;
        };
        if users
            .get(&self.who.1)
            .is_some_and(|news| news.receiver_count() == 0)
        {
            users.remove(&self.who.1);
        }
        if users.is_empty() {
            tenants.remove(&self.who.0);
        }
    }
}

impl Hub {
    /// Waits for what concerns `who` from now on.
    pub(crate) fn wait(&self, who: (TenantId, UserId)) -> Waiter {
        let mut tenants = self.lock();
        let users = tenants.entry(who.0).or_default();
        let news = users
            .entry(who.1)
            .or_insert_with(|| watch::channel(None).0)
            .subscribe();
        Waiter {
            hub: self.clone(),
            who,
            news: Some(news),
        }
    }

    /// Wakes everybody: what was missed is not known.
    fn wake_all(&self, level: Option<Position>) {
        for news in self.lock().values().flat_map(HashMap::values) {
            news.send_replace(level);
        }
    }

    fn wake(&self, tenant: TenantId, users: &[UserId], level: Position) {
        let tenants = self.lock();
        let waiting = tenants.get(&tenant);
        for user in users {
            if let Some(news) = waiting.and_then(|waiting| waiting.get(user)) {
                news.send_replace(Some(level));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn waiting(&self, tenant: TenantId) -> Vec<UserId> {
        let tenants = self.lock();
        let users = tenants.get(&tenant).into_iter().flat_map(HashMap::keys);
        users.copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Users>> {
        // A count is whole after each step, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the log from `from` on and wakes whom it concerns, until shutdown.
pub(crate) async fn keep_waking(state: ApiState, hub: Hub, from: Position) {
    let (filter, mut at) = (Filter::default(), from);
    while !state.shutdown.is_cancelled() {
        let mut tail = state.log.tail(state.wake(), filter.clone(), BATCH, at);
        // Of what came before, nobody was told here, or nobody in time.
        let mut late = Place::whole(at);
        let failed = loop {
            let wait = if late.is_empty() { SILENCE } else { AGAIN };
            let page = tokio::select! {
                page = tail.next(wait) => page,
                () = state.shutdown.cancelled() => return,
            };
            match page {
                Ok(page) => {
                    at = page.seen;
                    state.hot.stir(&page.facts).await;
                    // From here on: what came while nobody read is known by now.
                    if tail.is_level() {
                        state.hot.told(true);
                    }
                    if let Err(problem) = tell(&state, &hub, &page.facts, &mut late).await {
                        break format!("{problem:?}");
                    }
                    if tail.is_level() && !state.shutdown.sleep(PACE).await {
                        return;
                    }
                }
                Err(error) => break error.to_string(),
            }
        };
        tracing::warn!(
            error = failed,
            "who waits for news looks without being told"
        );
        state.hot.told(false);
        hub.wake_all(state.level("feed").await.ok());
        if !state.shutdown.sleep(AGAIN).await {
            return;
        }
    }
}

/// Wakes whom these facts concern, once the read models have them; and, once they have come as far as others were told too early,
/// everybody. Who comes when the read models lack what was read here before has looked too early, and is told with those.
async fn tell(
    state: &ApiState,
    hub: &Hub,
    facts: &[Sealed],
    late: &mut Place,
) -> Result<(), Problem> {
    let place = Place::of(facts.iter().map(|fact| (fact.lane, fact.position)));
    if hub.is_empty() {
        late.extend(place);
        return Ok(());
    }
    if !late.is_empty() && state.wait_for(late, READS).await? {
        let level = state.level("feed").await?;
        *late = Place::default();
        hub.wake_all(Some(level));
    }
    if facts.is_empty() {
        return Ok(());
    }
    if !state.wait_for(&place, READS).await? {
        late.extend(place);
    }
    let tenants: BTreeSet<TenantId> = facts.iter().map(|fact| fact.tenant).collect();
    let mut level = None;
    for tenant in tenants {
        let waiting = hub.waiting(tenant);
        if waiting.is_empty() {
            continue;
        }
        let mentioned = mentioned(facts.iter().filter(|fact| fact.tenant == tenant));
        let mut tx = TenantTx::begin(&state.pool, tenant.0, Uuid::nil()).await?;
        let users = concerned(&mut tx, tenant, &mentioned, &waiting).await?;
        if users.is_empty() {
            continue;
        }
        let level = match level {
            Some(level) => level,
            None => *level.insert(state.level("feed").await?),
        };
        hub.wake(tenant, &users, level);
    }
    Ok(())
}

/// Whatever looks like an id in what facts say.
fn mentioned<'a>(facts: impl Iterator<Item = &'a Sealed>) -> Mentioned {
    let mut mentioned = Mentioned::default();
    for fact in facts {
        let ids = mentioned_in(fact);
        if FEEDING.contains(&&*fact.fact_type) {
            mentioned.feeding.extend(&ids);
        }
        mentioned.all.extend(ids);
    }
    mentioned
}

/// Whatever looks like an id in what a fact says.
pub(crate) fn mentioned_in(fact: &Sealed) -> BTreeSet<Uuid> {
    let mut ids = BTreeSet::new();
    if let Ok(payload) = serde_json::from_str(&fact.payload) {
        collect(&payload, &mut ids);
    }
    let (_, subject) = fact.subject.split_once('-').unwrap_or_default();
    ids.extend(subject.parse::<Uuid>());
    ids
}

fn collect(value: &Value, ids: &mut BTreeSet<Uuid>) {
    match value {
        Value::String(text) => ids.extend(text.parse::<Uuid>()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, ids)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, ids)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: u128) -> (TenantId, UserId) {
        (TenantId(Uuid::from_u128(1)), UserId(Uuid::from_u128(user)))
    }

    #[tokio::test]
    async fn who_is_concerned_wakes_and_who_has_gone_is_forgotten() {
        let hub = Hub::default();
        let (mut ana, mut again, mut bo) = (hub.wait(who(1)), hub.wait(who(1)), hub.wait(who(2)));
        assert_eq!(hub.waiting(who(1).0).len(), 2);
        hub.wake(who(1).0, &[who(1).1], Position(7));
        let told = tokio::join!(ana.news(), again.news());
        assert_eq!(told, (Some(Position(7)), Some(Position(7))));
        let silent = tokio::time::timeout(Duration::from_millis(20), bo.news());
        assert!(silent.await.is_err());
        drop((ana, again));
        assert_eq!(hub.waiting(who(1).0), [who(2).1]);
        drop(bo);
        assert!(hub.lock().is_empty());
    }
}
