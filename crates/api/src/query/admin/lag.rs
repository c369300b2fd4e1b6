//! `GET /admin/lag`, `GET /admin/scaling` and `GET /admin/parked`: what subscriptions have not taken in.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use events::id::LANES;
use events::subscription::{Backlog, backlogs, newest_parked};
use projectors::operator as model;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Operator;
use crate::problem::Problem;
use crate::state::ApiState;

/// Facts that are counted in a lane: all lanes of a subscription together, so many that it wants as many processes as there can be.
const COUNTED: i64 = EACH;
/// Facts behind for which one more process is wanted.
const EACH: i64 = 10_000;
/// Parked subjects that are named of each subscription.
const NAMED: i64 = 20;

/// How far behind all subscriptions are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"subscriptions": [{"subscription": "feed_g1", "behind": 12, "seconds": 0.4,
    "lanes": [{"lane": 7, "position": 4699, "behind": 12, "seconds": 0.4}]}]}))]
pub(crate) struct Lags {
    /// By name: builds of read models, and what the transcoder follows.
    subscriptions: Vec<SubscriptionLag>,
}

/// How far behind a subscription is.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscriptionLag {
    /// Its name.
    subscription: String,
    /// Facts that it has not taken in.
    behind: i64,
    /// Age of the oldest of them.
    seconds: f64,
    /// The lanes that have some; all others are level.
    lanes: Vec<LaneLag>,
}

/// How far behind a lane of a subscription is.
#[derive(Serialize, ToSchema)]
pub(crate) struct LaneLag {
    /// The lane, 0 to 63.
    lane: i16,
    /// How far it has come.
    position: i64,
    /// Facts of the lane after that: counted up to 10000.
    behind: i64,
    /// Age of the oldest of them.
    seconds: f64,
}

/// See how far behind subscriptions are
///
/// For the role `operator`: each subscription, and of each the lanes that are behind. In a lane 10000 facts are counted at most.
#[utoipa::path(get, path = "/admin/lag", tag = "admin",
    responses((status = 200, description = "Facts behind and their age", body = Lags)))]
pub(crate) async fn lag(State(state): State<ApiState>, _: Operator) -> Result<Json<Lags>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let backlogs = backlogs(&mut connection, COUNTED).await?;
    let subscriptions = backlogs.into_iter().map(|(subscription, backlog)| {
        let lanes = backlog.lanes.iter().map(|(lane, waits)| LaneLag {
            lane: lane.number(),
            position: waits.position.0,
            behind: waits.facts,
            seconds: waits.seconds,
        });
        let (behind, seconds) = sum(&backlog);
        SubscriptionLag {
            lanes: lanes.collect(),
            subscription,
            behind,
            seconds,
        }
    });
    Ok(Json(Lags {
        subscriptions: subscriptions.collect(),
    }))
}

/// How many facts wait in all lanes, and how long the oldest has.
fn sum(backlog: &Backlog) -> (i64, f64) {
    let lanes = || backlog.lanes.values();
    let oldest = lanes().map(|waits| waits.seconds).fold(0.0, f64::max);
    (lanes().map(|waits| waits.facts).sum(), oldest)
}

/// How many processes of projectors there should be.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"wanted": 3, "projections": [{"projection": "feed", "subscription": "feed_g1", "behind": 25000,
    "seconds": 31.5, "lanes": 60, "processes": 1, "wanted": 3}]}))]
pub(crate) struct Scaling {
    /// The most that any of them wants: for processes that each work on all projections.
    wanted: i64,
    /// Builds of read models that are kept true.
    projections: Vec<Scale>,
}

/// How many processes a projection should have.
#[derive(Serialize, ToSchema)]
pub(crate) struct Scale {
    /// The read model.
    projection: String,
    /// Its build: what is read, or what was read before and is kept true.
    subscription: String,
    /// Facts that it has not taken in.
    behind: i64,
    /// Age of the oldest of them.
    seconds: f64,
    /// Lanes that have some: more processes than that have nothing to do.
    lanes: i64,
    /// Processes that work on it.
    processes: i64,
    /// Processes that it should have.
    wanted: i64,
}

/// See how many processes projections want
///
/// For the role `operator`, and for what scales by a number over HTTP, such as KEDA's `metrics-api` with the `valueLocation` `wanted` or
/// `projections.#(projection=="feed").wanted` and a `targetValue` of 1. `wanted` is one process, and one more for each 10000 facts
/// behind; never more than lanes are behind, of which there are 64.
#[utoipa::path(get, path = "/admin/scaling", tag = "admin",
    responses((status = 200, description = "A number for each projection, and one for all", body = Scaling)))]
pub(crate) async fn scaling(
    State(state): State<ApiState>,
    _: Operator,
) -> Result<Json<Scaling>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let builds = model::builds(&mut connection).await?;
    let mut backlogs = backlogs(&mut connection, COUNTED).await?;
    let projections: Vec<Scale> = builds
        .into_iter()
        .filter(model::Build::is_kept_true)
        .map(|build| {
            let backlog = backlogs.remove(&build.name).unwrap_or_default();
            let (behind, seconds) = sum(&backlog);
            let lanes = i64::try_from(backlog.lanes.len()).unwrap_or_default();
            Scale {
                projection: build.projection,
                subscription: build.name,
                behind,
                seconds,
                lanes,
                processes: backlog.processes,
                wanted: wanted(behind, lanes),
            }
        })
        .collect();
    let most = projections.iter().map(|one| one.wanted).max();
    Ok(Json(Scaling {
        wanted: most.unwrap_or(1),
        projections,
    }))
}

fn wanted(behind: i64, lanes: i64) -> i64 {
    (1 + behind / EACH).clamp(1, lanes.clamp(1, LANES.into()))
}

/// What cannot be taken in.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"subscriptions": [{"subscription": "feed_g1", "subjects": 1, "facts": 3, "newest": [
    {"tenant": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a", "subject": "post-0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a",
    "since": "2030-01-01T00:00:00Z", "position": 4711, "facts": 3, "wish": null}]}]}))]
pub(crate) struct AllParked {
    /// Those that have parked subjects.
    subscriptions: Vec<SubscriptionParked>,
}

/// What a subscription cannot take in.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscriptionParked {
    /// Its name.
    subscription: String,
    /// How many subjects are parked.
    subjects: i64,
    /// How many facts wait in all of them.
    facts: i64,
    /// The newest 20 subjects.
    newest: Vec<ParkedSubject>,
}

/// A subject whose facts wait.
#[derive(Serialize, ToSchema)]
pub(crate) struct ParkedSubject {
    /// Whose data it is.
    tenant: Uuid,
    /// The subject.
    subject: String,
    /// Since when it waits.
    since: DateTime<Utc>,
    /// The first of its facts that waits.
    position: i64,
    /// How many of its facts wait.
    facts: i64,
    /// What somebody asked to be done with it: `retry` or `drop`.
    wish: Option<String>,
}

/// See what subscriptions cannot take in
///
/// For the role `operator`. Neither facts nor errors, which may quote them: `cinelog parked` shows those, and decides.
#[utoipa::path(get, path = "/admin/parked", tag = "admin",
    responses((status = 200, description = "Parked subjects, counted, and the newest of them", body = AllParked)))]
pub(crate) async fn parked(
    State(state): State<ApiState>,
    _: Operator,
) -> Result<Json<AllParked>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let mut subscriptions: Vec<SubscriptionParked> = vec![];
    for one in newest_parked(&mut connection, NAMED).await? {
        if subscriptions
            .last()
            .is_none_or(|last| last.subscription != one.subscription)
        {
            subscriptions.push(SubscriptionParked {
                subscription: one.subscription,
                subjects: one.subjects,
                facts: one.facts,
                newest: vec![],
            });
        }
        if let Some(of) = subscriptions.last_mut() {
            of.newest.push(ParkedSubject {
                tenant: one.tenant.0,
                subject: one.subject,
                since: one.parked_at,
                position: one.position.0,
                facts: one.waiting,
                wish: one.wish,
            });
        }
    }
    Ok(Json(AllParked { subscriptions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_wanted_for_what_waits_and_never_more_than_have_work() {
        assert_eq!(wanted(0, 0), 1);
        assert_eq!(wanted(9_999, 64), 1);
        assert_eq!(wanted(25_000, 64), 3);
        assert_eq!(wanted(25_000, 2), 2);
        assert_eq!(wanted(64 * COUNTED, 64), 64);
    }
}
