//! How often: one table of rates. What a process counts by itself is counted by GCRA (a steady flow, and a burst on top); what must hold
//! over all processes is counted in Postgres, where it costs a round trip.
//!
//! Answers tell the caller's own rate by `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 has them:
//! not a standard yet.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;
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

use crate::auth::{Asks, Principal};
use crate::metrics;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const LEFT: HeaderName = HeaderName::from_static("ratelimit");
/// How often what is not needed any more is forgotten.
const TIDY: Duration = Duration::from_mins(1);

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// Those from one address, whoever sends them; of IPv6 from one network.
    Address,
    /// Those of one user.
    User,
    /// Those of all users of a tenant.
    Tenant,
}

/// What requests cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// All of them.
    Any,
    /// Queries.
    Read,
    /// Commands.
    Write,
    /// Searches.
    Search,
    /// Permissions to upload.
    Upload,
    /// Streams of news.
    Live,
    /// Reading very much at once.
    Bulk,
}

/// Where it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Each process counts what it sees.
    Process,
    /// All processes together.
    Postgres,
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    name: &'static str,
    by: By,
    class: Class,
    kept: Kept,
    /// So many at once.
    burst: u32,
    /// And so many a minute for ever.
    per_minute: u32,
}

const fn rate(
    name: &'static str,
    by: By,
    class: Class,
    kept: Kept,
    burst: u32,
    per_minute: u32,
) -> Rate {
    Rate {
        name,
        by,
        class,
        kept,
        burst,
        per_minute,
    }
}

/// All rates. Proving who one is has rates of its own, in `command::account`.
#[rustfmt::skip]
const TABLE: [Rate; 9] = [
    rate("address",      By::Address, Class::Any,    Kept::Process,  2_000,   6_000),
    rate("user-read",    By::User,    Class::Read,   Kept::Process,    300,   1_200),
    rate("user-write",   By::User,    Class::Write,  Kept::Process,    100,     300),
    rate("user-live",    By::User,    Class::Live,   Kept::Process,     30,      60),
    rate("user-bulk",    By::User,    Class::Bulk,   Kept::Process,     30,     120),
    rate("user-search",  By::User,    Class::Search, Kept::Postgres,    60,     120),
    rate("user-upload",  By::User,    Class::Upload, Kept::Postgres,   100,     120),
    rate("tenant-read",  By::Tenant,  Class::Read,   Kept::Process, 20_000, 600_000),
    rate("tenant-write", By::Tenant,  Class::Write,  Kept::Process, 10_000, 300_000),
];

/// The rates of an installation: those of the table, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    off: bool,
    /// By name: burst, and how many a minute.
    other: BTreeMap<&'static str, (u32, u32)>,
}

impl FromStr for RateLimits {
    type Err = String;

    /// `on`, `off`, or lines of the table that are to be others: `user-read=300/1200,address=2000/6000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut rates = Self::default();
        match text {
            "on" => return Ok(rates),
            "off" => rates.off = true,
            lines => {
                for line in lines.split(',') {
                    let (name, rate) = one(line).ok_or_else(|| {
                        let names: Vec<&str> = TABLE.iter().map(|rate| rate.name).collect();
                        format!("`{line}`: expected NAME=BURST/PER_MINUTE, both at least 1; names are {}", names.join(", "))
                    })?;
                    rates.other.insert(name, rate);
                }
            }
        }
        Ok(rates)
    }
}

fn one(line: &str) -> Option<(&'static str, (u32, u32))> {
    let (name, rate) = line.trim().split_once('=')?;
    let (burst, per_minute) = rate.split_once('/')?;
    let known = TABLE.iter().find(|rate| rate.name == name)?;
    let number = |text: &str| text.parse::<NonZeroU32>().ok().map(NonZeroU32::get);
    Some((known.name, (number(burst)?, number(per_minute)?)))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(String),
    User(TenantId, UserId),
    Tenant(TenantId),
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
        if limits.off {
            return Self(vec![]);
        }
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
        Self(TABLE.into_iter().map(counted).collect())
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

impl Rate {
    fn policy(&self) -> String {
        let window = (u64::from(self.burst) * 60).div_ceil(u64::from(self.per_minute));
        format!("\"{}\";q={};w={}", self.name, self.burst, window.max(1))
    }
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
    async fn count_request(
        &self,
        class: Class,
        who: &[(By, Who)],
    ) -> Result<Option<Standing>, Problem> {
        let mut own = None;
        for (rate, counter) in &self.rates.0 {
            let Some((_, who)) = who.iter().find(|(by, _)| *by == rate.by) else {
                continue;
            };
            if rate.class != class {
                continue;
            }
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

    async fn of_all(&self, rate: Rate, who: &Who) -> Result<Standing, Problem> {
        let (tenant, name) = match who {
            Who::User(tenant, user) => (*tenant, user.to_string()),
            Who::Tenant(tenant) => (*tenant, String::new()),
            Who::Address(address) => (TenantId(uuid::Uuid::nil()), address.clone()),
        };
        let bucket = Bucket::new(rate.name, rate.burst, rate.per_minute);
        let taken = self
            .accounts
            .count(bucket, tenant.0, &name, self.clock.now());
        let taken = taken.await?;
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
    let who = [(By::Address, Who::Address(peer.counted()))];
    match state.count_request(Class::Any, &who).await {
        Ok(Some(standing)) if standing.wait.is_some() => refused(standing),
        Err(problem) => problem.into_response(),
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
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
    let who = [
        (By::User, Who::User(tenant, user)),
        (By::Tenant, Who::Tenant(tenant)),
    ];
    let standing = match state.count_request(class, &who).await {
        Ok(standing) => standing,
        Err(problem) => return problem.into_response(),
    };
    match standing {
        Some(standing) if standing.wait.is_some() => refused(standing),
        Some(standing) => told(next.run(request).await, standing),
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

fn refused(standing: Standing) -> Response {
    metrics::rate_limited(standing.rate.name);
    let problem = Problem::rate_limited(standing.wait.unwrap_or_default());
    let why = format!(
        "{} allows {} a minute, and {} at once",
        standing.rate.name, standing.rate.per_minute, standing.rate.burst
    );
    told(problem.detail(why).into_response(), standing)
}

fn told(mut response: Response, standing: Standing) -> Response {
    let Standing { rate, left, wait } = standing;
    // Until all of it is there again; of one that was refused, until there is room.
    let whole =
        (u64::from(rate.burst - left.min(rate.burst)) * 60).div_ceil(u64::from(rate.per_minute));
    let seconds = wait.map_or(whole, |wait| wait.as_secs() + 1);
    for (name, value) in [
        (POLICY, rate.policy()),
        (LEFT, format!("\"{}\";r={left};t={seconds}", rate.name)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The table, as docs/reference/limits.md has it.
pub(super) fn table() -> String {
    let line = |rate: Rate| {
        let class = match rate.class {
            Class::Any => "all",
            Class::Read => "queries",
            Class::Write => "commands",
            Class::Search => "searches and completions",
            Class::Upload => "permissions to upload",
            Class::Live => "beginnings of streams of news",
            Class::Bulk => "facts and exports",
        };
        let by = match rate.by {
            By::Address => "address; of IPv6, network of 64 bits",
            By::User => "user",
            By::Tenant => "tenant",
        };
        let kept = match rate.kept {
            Kept::Process => "by each process",
            Kept::Postgres => "over all processes",
        };
        let Rate {
            name,
            burst,
            per_minute,
            ..
        } = rate;
        format!("| `{name}` | {by} | {class} | {burst} | {per_minute} | {kept} |")
    };
    TABLE.map(line).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_can_be_others() {
        let rates: RateLimits = "user-read=5/60, address=1/1".parse().unwrap();
        assert_eq!(
            rates.other,
            BTreeMap::from([("user-read", (5, 60)), ("address", (1, 1))])
        );
        assert_eq!("on".parse(), Ok(RateLimits::default()));
        assert!("off".parse::<RateLimits>().unwrap().off);
        for wrong in [
            "",
            "user-read",
            "user-read=5",
            "user-read=0/60",
            "user-read=5/0",
            "others=5/60",
            "user-read=-1/2",
        ] {
            let error = wrong.parse::<RateLimits>().unwrap_err();
            assert!(error.contains("user-write"), "{error}");
        }
    }

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
