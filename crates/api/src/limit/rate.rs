//! How often, by the one table of rates. What a process counts by itself is counted by GCRA (a steady flow, and a burst on top); what must hold
//! over all processes is counted in Postgres, where it costs a round trip.
//!
//! Answers tell the caller's own rate by `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 has them:
//! not a standard yet.

use std::num::NonZeroU32;
use std::time::Duration;

use accounts::Bucket;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use events::id::{TenantId, UserId};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::table::{By, Class, Kept, Rate, RateLimits, TABLE};
use crate::auth::{Asks, Principal};
use crate::metrics;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const LEFT: HeaderName = HeaderName::from_static("ratelimit");
/// How often what is not needed any more is forgotten.
const TIDY: Duration = Duration::from_mins(1);

/// Who asks, as far as it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Address(String),
    User(TenantId, UserId),
    Tenant(TenantId),
    Name(TenantId, String),
}

impl Who {
    /// Whoever asks from there.
    pub(crate) fn at(peer: &Peer) -> Self {
        Self::Address(peer.counted())
    }

    /// Whoever asks under this name or address, however it is written.
    pub(crate) fn called(tenant: TenantId, name: &str) -> Self {
        Self::Name(tenant, name.trim().to_lowercase())
    }

    fn by(&self) -> By {
        match self {
            Self::Address(_) => By::Address,
            Self::User(..) => By::User,
            Self::Tenant(_) => By::Tenant,
            Self::Name(..) => By::Name,
        }
    }
}

type Counter = RateLimiter<Who, DashMapStateStore<Who>, DefaultClock, StateInformationMiddleware>;

/// What counts.
pub(crate) struct Rates(Vec<(Rate, Option<Counter>)>);

/// How a rate stands after one more request.
#[derive(Clone, Copy, Debug)]
struct Standing {
    rate: Rate,
    left: u32,
    /// One too many: in how long there will be room.
    wait: Option<Duration>,
}

impl Rates {
    pub(crate) fn new(limits: &RateLimits) -> Self {
        let counted = |mut rate: Rate| {
            if let Some((burst, per_minute)) = limits.other.get(rate.name) {
                (rate.burst, rate.per_minute) = (*burst, *per_minute);
            }
            let counter = (rate.kept == Kept::Process).then(|| {
                let quota = Quota::per_minute(at_least_one(rate.per_minute));
                let quota = quota.allow_burst(at_least_one(rate.burst));
                RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>()
            });
            (rate, counter)
        };
        let rates = TABLE.into_iter();
        let rates = rates.filter(|rate| !limits.off || rate.class.proves());
        Self(rates.map(counted).collect())
    }

    /// Forgets who has not asked for so long that it makes no difference.
    fn tidy(&self) {
        for counter in self.0.iter().filter_map(|(_, counter)| counter.as_ref()) {
            counter.retain_recent();
            counter.shrink_to_fit();
        }
    }
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

/// Forgets now and then, until shutdown.
pub(crate) async fn keep_tidy(state: ApiState) {
    loop {
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = tokio::time::sleep(TIDY) => state.rates.tidy(),
        }
    }
}

impl ApiState {
    /// Counts one more request in each rate of `class` that has a counterpart in `who`; the first that refuses, or else the last.
    async fn count_request(&self, class: Class, who: &[Who]) -> Result<Option<Standing>, Problem> {
        let mut own = None;
        for (rate, counter) in self.rates.0.iter().filter(|(rate, _)| rate.class == class) {
            let Some(who) = who.iter().find(|who| who.by() == rate.by) else {
                continue;
            };
            let standing = match counter {
                Some(counter) => of_process(*rate, counter, who),
                None => self.of_all(*rate, who).await?,
            };
            if standing.wait.is_some() {
                return Ok(Some(standing));
            }
            if rate.by == By::User {
                own = Some(standing);
            }
        }
        Ok(own)
    }

    /// Counts a try of somebody who has not proven who they are, and refuses one too many.
    pub(crate) async fn count_try(&self, class: Class, who: &[Who]) -> Result<(), Problem> {
        match self.count_request(class, who).await? {
            Some(standing) if standing.wait.is_some() => Err(refused(standing)),
            _ => Ok(()),
        }
    }

    async fn of_all(&self, rate: Rate, who: &Who) -> Result<Standing, Problem> {
        let (tenant, name) = match who {
            Who::User(tenant, user) => (*tenant, user.to_string()),
            Who::Tenant(tenant) => (*tenant, String::new()),
            Who::Address(address) => (TenantId(uuid::Uuid::nil()), address.clone()),
            Who::Name(tenant, name) => (*tenant, name.clone()),
        };
        let bucket = Bucket::new(rate.name, rate.burst, rate.per_minute);
        let now = self.clock.now();
        let taken = if rate.class.proves() {
            self.accounts.take(bucket, tenant.0, &name, now).await?
        } else {
            self.accounts.count(bucket, tenant.0, &name, now).await?
        };
        Ok(Standing {
            rate,
            left: taken.left,
            wait: taken.wait,
        })
    }
}

fn of_process(rate: Rate, counter: &Counter, who: &Who) -> Standing {
    match counter.check_key(who) {
        Ok(state) => Standing {
            rate,
            left: state.remaining_burst_capacity(),
            wait: None,
        },
        Err(not_until) => Standing {
            rate,
            left: 0,
            wait: Some(not_until.wait_time_from(DefaultClock::default().now())),
        },
    }
}

/// Refuses what comes too often from one address, before anything is found out about it.
pub(crate) async fn of_address(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(peer) = Peer::from_request_parts(&mut parts, &state).await;
    match state.count_try(Class::Any, &[Who::at(&peer)]).await {
        Err(problem) => problem.into_response(),
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
    }
}

/// Refuses what one user, or all of a tenant, ask too often, and tells how much is left.
pub(crate) async fn of_user(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Asks(Ok(who))) = request.extensions().get() else {
        return next.run(request).await;
    };
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    let class = class(request.method(), route.unwrap_or_default());
    let Principal { tenant, user, .. } = *who;
    let who = [Who::User(tenant, user), Who::Tenant(tenant)];
    let standing = match state.count_request(class, &who).await {
        Ok(standing) => standing,
        Err(problem) => return problem.into_response(),
    };
    match standing {
        Some(standing) if standing.wait.is_some() => refused(standing).into_response(),
        Some(standing) => {
            let mut response = next.run(request).await;
            response.headers_mut().extend(told(standing));
            response
        }
        None => next.run(request).await,
    }
}

fn class(method: &Method, route: &str) -> Class {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        "/v1/search" | "/v1/search/complete" => Class::Search,
        "/v1/uploads" => Class::Upload,
        "/v1/facts" | "/v1/users/me/export" => Class::Bulk,
        live if live.ends_with("/live") => Class::Live,
        _ if reads => Class::Read,
        _ => Class::Write,
    }
}

fn refused(standing: Standing) -> Problem {
    metrics::rate_limited(standing.rate.name);
    let problem = Problem::rate_limited(standing.wait.unwrap_or_default(), told(standing));
    problem.detail(format!(
        "{} allows {} a minute, and {} at once",
        standing.rate.name, standing.rate.per_minute, standing.rate.burst
    ))
}

fn told(Standing { rate, left, wait }: Standing) -> Vec<(HeaderName, HeaderValue)> {
    // Until all of it is there again; of one that was refused, until there is room.
    let whole =
        (u64::from(rate.burst - left.min(rate.burst)) * 60).div_ceil(u64::from(rate.per_minute));
    let seconds = wait.map_or(whole, |wait| wait.as_secs() + 1);
    let told = [
        (POLICY, rate.policy()),
        (LEFT, format!("\"{}\";r={left};t={seconds}", rate.name)),
    ];
    let told = told.map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)));
    told.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_of_one_class() {
        for (method, route, of) in [
            (Method::GET, "/v1/feed", Class::Read),
            (Method::GET, "/v1/feed/live", Class::Live),
            (Method::GET, "/v1/search", Class::Search),
            (Method::POST, "/v1/uploads", Class::Upload),
            (Method::POST, "/v1/uploads/{id}/complete", Class::Write),
            (Method::DELETE, "/v1/posts/{id}", Class::Write),
            (Method::GET, "/v1/facts", Class::Bulk),
        ] {
            assert_eq!(class(&method, route), of, "{method} {route}");
        }
    }

    #[test]
    fn a_burst_passes_and_then_a_steady_flow() {
        let rates = Rates::new(&"user-read=3/60".parse().unwrap());
        let (rate, counter) = rates
            .0
            .iter()
            .find(|(rate, _)| rate.name == "user-read")
            .unwrap();
        let ask = |user| {
            of_process(
                *rate,
                counter.as_ref().unwrap(),
                &Who::User(
                    TenantId(uuid::Uuid::nil()),
                    UserId(uuid::Uuid::from_u128(user)),
                ),
            )
        };
        let left: Vec<u32> = (0..3).map(|_| ask(1).left).collect();
        assert_eq!(left, [2, 1, 0]);
        let wait = ask(1).wait.unwrap();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert!(ask(2).wait.is_none());
        assert_eq!(rate.policy(), "\"user-read\";q=3;w=3");
    }
}
