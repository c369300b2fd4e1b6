//! Read your own writes: a command answers with a signed position, a read that carries it waits for the read model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use events::envelope::Recorded;
use events::id::{Lane, Position};
use tokio::time::{Instant, timeout_at};

use crate::problem::{Kind, Problem};
use crate::signed::position::{NoPlace, Positions};
use crate::state::ApiState;

/// On the answer to a command.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("cinelog-position");
/// On a read.
const MIN_POSITION: HeaderName = HeaderName::from_static("cinelog-min-position");
/// On the answer to a read whose read model was not there in time.
pub(crate) const STALE: HeaderName = HeaderName::from_static("cinelog-stale");
/// On every read: the age in seconds of the oldest fact that what was read lacks, as of a second ago.
pub(crate) const BEHIND: HeaderName = HeaderName::from_static("cinelog-behind");

/// How long a read waits for its read model.
const WAIT: Duration = Duration::from_millis(250);
/// How often it looks.
const EVERY: Duration = Duration::from_millis(10);

/// A place that a read wants to have been reached: a position in each lane that something was written to. Read models
/// follow the lanes one by one, so that none of them stands for another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(BTreeMap<Lane, Position>);

impl Place {
    /// The last of these positions in each lane.
    pub(crate) fn of(steps: impl IntoIterator<Item = (Lane, Position)>) -> Self {
        Self(steps.into_iter().collect())
    }

    /// All that the log holds up to `position`.
    pub(crate) fn whole(position: Position) -> Self {
        Self::of(Lane::all().map(|lane| (lane, position)))
    }

    /// Whether it is where everybody is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes on to `other`, which is later.
    pub(crate) fn extend(&mut self, other: Place) {
        self.0.extend(other.0);
    }
}

impl Positions {
    /// The token for the place of the last of `facts`; none without facts.
    pub(crate) fn token(&self, facts: &[Recorded]) -> Option<String> {
        let place = Place::of(facts.iter().map(|fact| (fact.lane, fact.position)));
        (!facts.is_empty()).then(|| self.token_of(&place))
    }

    fn token_of(&self, place: &Place) -> String {
        let steps = place.0.iter();
        // A lane is one of 64.
        self.seal(steps.map(|(lane, position)| {
            let lane = u8::try_from(lane.number()).unwrap_or_default();
            (lane, position.0)
        }))
    }

    fn place(&self, token: &[u8]) -> Result<Place, Problem> {
        let steps = self.open(token).map_err(|no| match no {
            NoPlace::Invalid => Kind::PositionInvalid,
            NoPlace::OfAnotherLog => Kind::PositionGone,
        })?;
        let steps = steps
            .into_iter()
            .map(|(lane, position)| Some((Lane::new(lane.into())?, Position(position))));
        let steps = steps.collect::<Option<_>>();
        Ok(Place(steps.ok_or(Kind::PositionInvalid)?))
    }

    /// The place that a read's headers ask for.
    pub(crate) fn wanted(&self, headers: &HeaderMap) -> Result<Option<Place>, Problem> {
        headers
            .get(MIN_POSITION)
            .map(|token| self.place(token.as_bytes()))
            .transpose()
    }
}

impl ApiState {
    /// Waits until the live generations of `models` have reached `place`; false when that took too long. Holds no
    /// connection while it waits.
    pub(crate) async fn wait_for(&self, place: &Place, models: &[&str]) -> Result<bool, Problem> {
        let deadline = Instant::now() + WAIT;
        for model in models {
            let subscription = self.subscription(model).await?;
            let mut reached = self.reached(&subscription, place).await?;
            while !reached {
                if Instant::now() + EVERY > deadline {
                    return Ok(false);
                }
                tokio::time::sleep(EVERY).await;
                // In turns, however many wait: else they would be in the way of what they wait for.
                let Ok(_turn) = timeout_at(deadline, self.awaiting.acquire()).await else {
                    return Ok(false);
                };
                reached = self.reached(&subscription, place).await?;
            }
        }
        Ok(true)
    }

    /// How far behind the one of `models` is that is furthest behind, as of a second ago.
    pub(crate) async fn behind(&self, models: &[&str]) -> Result<Option<Duration>, Problem> {
        let Some(lags) = self.lags() else {
            return Ok(None);
        };
        let live = self.live().await?;
        let mut behind = None;
        for model in models {
            let subscription = live.get(*model).ok_or(Kind::Unavailable)?;
            let of_model = lags.iter().find(|lag| lag.subscription == *subscription);
            behind = behind.max(of_model.map(|lag| lag.behind));
        }
        Ok(behind)
    }

    /// Up to where the live generation of `model` has taken in every fact: of lanes, some may be further.
    pub(crate) async fn level(&self, model: &str) -> Result<Position, Problem> {
        let subscription = self.subscription(model).await?;
        Ok(events::subscription::level(&self.pool, &subscription).await?)
    }

    async fn reached(&self, subscription: &str, place: &Place) -> Result<bool, Problem> {
        let mut connection = self.pool.acquire().await?;
        Ok(events::subscription::reached(&mut connection, subscription, &place.0).await?)
    }

    /// The subscription that feeds the generation of `model` that is read now.
    async fn subscription(&self, model: &str) -> Result<String, Problem> {
        let live = self.live().await?;
        live.get(model)
            .cloned()
            .ok_or_else(|| Kind::Unavailable.into())
    }

    /// The subscriptions that feed what is read now, by read model.
    async fn live(&self) -> Result<Arc<BTreeMap<String, String>>, Problem> {
        if let Some(live) = self.generations.get(&()).await {
            return Ok(live);
        }
        let live = Arc::new(projectors::registry::live(&self.pool).await?);
        self.generations.insert((), Arc::clone(&live)).await;
        Ok(live)
    }
}

#[cfg(test)]
mod tests {
    use service::mac::MacKey;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_position_is_ours_and_of_this_log() {
        let key = MacKey::new(b"secret");
        let ours = Positions::new(key.clone(), Uuid::from_u128(1));
        let lanes = [(63, 7), (0, 9)].map(|(lane, n)| (Lane::new(lane).unwrap(), Position(n)));
        let place = Place(lanes.into());
        let token = ours.token_of(&place);
        assert_eq!(ours.place(token.as_bytes()).unwrap(), place);
        let kind = |positions: &Positions, token: &str| {
            format!("{:?}", positions.place(token.as_bytes()).unwrap_err())
        };
        assert!(kind(&Positions::new(key, Uuid::from_u128(2)), &token).contains("PositionGone"));
        let other = Positions::new(MacKey::new(b"other"), Uuid::from_u128(1));
        assert!(kind(&other, &token).contains("PositionInvalid"));
        assert!(kind(&ours, "1").contains("PositionInvalid"));
    }
}
