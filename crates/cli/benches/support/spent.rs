//! Where time goes: every statement's, as the driver tells it to whoever listens, by what it is for; the rest is ours.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use events::envelope::Recorded;
use events::fact::Fact;
use events::subscription::Subscriber;
use futures::future::BoxFuture;
use sqlx::PgConnection;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata};

/// What statements are for, by what is in them; the first that fits.
const PARTS: &[(&str, &str)] = &[
    (
        "subscription.",
        "move checkpoints, compare with the log, look for parked",
    ),
    ("log.person_keys", "read keys"),
    ("INTO feed_entry", "push: cut, entries"),
    ("INTO reader", "push: trim"),
    ("INTO author", "push: lock authors, count followers"),
    ("to_jsonb", "load rows"),
    ("jsonb_populate_recordset", "upsert rows"),
    ("DELETE FROM", "delete rows"),
    ("COMMIT", "commit"),
];
const OTHER: &str = "begin, settings";

static STATEMENTS: Mutex<BTreeMap<&str, Duration>> = Mutex::new(BTreeMap::new());
static APPLYING: AtomicBool = AtomicBool::new(false);
/// Nanoseconds of statements while the read model takes facts in.
static APPLIED_IN_SQL: AtomicU64 = AtomicU64::new(0);

/// Listens to the driver's statements only. Install it before any connection is opened.
pub(crate) struct Statements;

impl tracing::Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Whether anybody listens is asked by other metadata than that of the event.
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        let part = PARTS.iter().find(|(mark, _)| told.text.contains(mark));
        let part = part.map_or(OTHER, |(_, part)| part);
        let mut statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        *statements.entry(part).or_default() += told.elapsed;
        if APPLYING.load(Ordering::Relaxed) {
            let nanos = u64::try_from(told.elapsed.as_nanos()).unwrap_or_default();
            APPLIED_IN_SQL.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Told {
    text: String,
    elapsed: Duration,
}

impl Visit for Told {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.elapsed = Duration::from_secs_f64(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if ["summary", "db.statement"].contains(&field.name()) {
            self.text.push_str(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// A subscriber whose time is taken.
pub(crate) struct Timed<S> {
    pub(crate) subscriber: S,
    applying: Mutex<Duration>,
}

impl<S: Subscriber> Timed<S> {
    pub(crate) fn new(subscriber: S) -> Self {
        STATEMENTS.lock().unwrap().clear();
        APPLIED_IN_SQL.store(0, Ordering::Relaxed);
        Self {
            subscriber,
            applying: Mutex::default(),
        }
    }

    /// What took how much of `all`, which one writer took.
    pub(crate) fn told(&self, all: Duration) -> String {
        let mut parts: Vec<(&str, Duration)> = vec![];
        let statements = STATEMENTS.lock().unwrap();
        parts.extend(statements.iter().map(|(part, time)| (*part, *time)));
        let in_sql: Duration = statements.values().sum();
        let applied_in_sql = Duration::from_nanos(APPLIED_IN_SQL.load(Ordering::Relaxed));
        let fold = self.applying.lock().unwrap().saturating_sub(applied_in_sql);
        parts.push(("fold", fold));
        parts.push((
            "wait for pages, decode, open",
            all.saturating_sub(in_sql + fold),
        ));
        parts.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        let mut text = String::new();
        for (part, time) in parts {
            let share = 100.0 * time.as_secs_f64() / all.as_secs_f64();
            writeln!(text, "  {share:>5.1} % {part}").unwrap();
        }
        text
    }
}

impl<S: Subscriber> Subscriber for Timed<S> {
    fn name(&self) -> &str {
        self.subscriber.name()
    }

    fn schema(&self) -> Option<&str> {
        self.subscriber.schema()
    }

    fn handles(&self, fact: &Fact) -> bool {
        self.subscriber.handles(fact)
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            APPLYING.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            let applied = self.subscriber.apply(batch, tx).await;
            *self.applying.lock().unwrap() += begun.elapsed();
            APPLYING.store(false, Ordering::Relaxed);
            applied
        })
    }
}
