//! One batch of commands as calls of `log.append`: one, when its streams are as presumed, or one more after it has been told.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::append::{Prepared, Verdict};
use super::judge::{Heads, Judged, Ruling, Told};
use super::known::Epoch;
use crate::id::Position;

/// What `log.append` says: where rank 0 would be and when, or how a stream or a command stands.
#[derive(Default, sqlx::FromRow)]
struct Row {
    base: Option<i64>,
    recorded_at: Option<DateTime<Utc>>,
    stream: Option<i32>,
    version: Option<i64>,
    same_subject: Option<bool>,
    command: Option<i32>,
    first_position: Option<i64>,
    last_position: Option<i64>,
    same_body: Option<bool>,
}

/// Appends `commands` as the transaction that `connection` is in, or as one of its own. Those that were decided in another
/// epoch than `epoch` pass only if they have been accepted before. `known` is a position that the log has reached for
/// certain: the end is looked for above it.
pub(super) async fn append(
    connection: &mut PgConnection,
    commands: &[Prepared],
    epoch: Epoch,
    heads: &mut Heads,
    known: Position,
) -> Result<Vec<Verdict>, sqlx::Error> {
    let told = Told::default();
    let judged = Judged::new(commands, epoch, heads, &told);
    let mut told = match call(connection, commands, &judged, told, known).await? {
        Answer::Written(row) => {
            heads.keep(&judged);
            return verdicts(&judged, &row).ok_or_else(senseless);
        }
        Answer::Told(told) => told,
    };
    // Another process was faster. In one transaction, so that streams stay as they are told: this batch comes to its end
    // however fast the others are.
    let mut tx = connection.begin().await?;
    loop {
        let judged = Judged::new(commands, epoch, heads, &told);
        // What nobody won rests on what was told under the locks.
        let row = if judged.winners.is_empty() {
            Row::default()
        } else {
            match call(&mut tx, commands, &judged, told, known).await? {
                Answer::Written(row) => row,
                Answer::Told(again) => {
                    told = again;
                    continue;
                }
            }
        };
        tx.commit().await?;
        heads.keep(&judged);
        return verdicts(&judged, &row).ok_or_else(senseless);
    }
}

enum Answer {
    /// All of it: where rank 0 is, and when.
    Written(Row),
    /// Nothing.
    Told(Told),
}

fn senseless() -> sqlx::Error {
    sqlx::Error::Protocol("log.append gave an answer that makes no sense".to_owned())
}

fn verdicts(judged: &Judged<'_>, row: &Row) -> Option<Vec<Verdict>> {
    let verdict = |ruling: &Ruling| match *ruling {
        Ruling::Is(verdict) => Some(verdict),
        Ruling::Wins(first, _) => Some(Verdict::Accepted {
            first: Position(row.base? + i64::from(count(first)) + 1),
            at: row.recorded_at?,
        }),
    };
    judged.rulings.iter().map(verdict).collect()
}

fn tell(rows: Vec<Row>, streams: usize) -> Option<Told> {
    let mut told = Told {
        streams: vec![(0, true); streams],
        ..Told::default()
    };
    let place = |n: i32| usize::try_from(n).ok()?.checked_sub(1);
    for row in rows {
        if let Some(stream) = row.stream {
            *told.streams.get_mut(place(stream)?)? = (row.version?, row.same_subject?);
        }
        if let Some(command) = row.command {
            let verdict = if row.same_body? {
                Verdict::Repeated {
                    first: Position(row.first_position?),
                    last: Position(row.last_position?),
                }
            } else {
                Verdict::KeyReused
            };
            told.repeats.insert(place(command)?, verdict);
        }
    }
    Some(told)
}

async fn call(
    connection: &mut PgConnection,
    commands: &[Prepared],
    judged: &Judged<'_>,
    told: Told,
    known: Position,
) -> Result<Answer, sqlx::Error> {
    let args = Arguments::of(commands, judged, &told);
    let mut rows: Vec<Row> = sqlx::query_as(
        "SELECT base, recorded_at, stream, version, same_subject, command, first_position, last_position, same_body
         FROM log.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(args.s_tenant)
    .bind(args.s_id)
    .bind(args.s_subject)
    .bind(args.s_lane)
    .bind(args.s_before)
    .bind(args.s_after)
    .bind(args.s_state)
    .bind(args.c_id)
    .bind(args.c_hash)
    .bind(args.c_first)
    .bind(args.c_last)
    .bind(args.f_stream)
    .bind(args.f_version)
    .bind(args.f_type)
    .bind(args.f_schema)
    .bind(args.f_payload)
    .bind(args.f_meta)
    .bind(args.f_event)
    .bind(known)
    .fetch_all(connection)
    .await?;
    if let [only] = &mut rows[..]
        && only.stream.is_none()
        && only.command.is_none()
    {
        return Ok(Answer::Written(std::mem::take(only)));
    }
    let mut again = tell(rows, judged.streams.len()).ok_or_else(senseless)?;
    again.repeats.extend(told.repeats);
    Ok(Answer::Told(again))
}

/// The parameters of `log.append`, column by column.
#[derive(Default)]
struct Arguments<'a> {
    s_tenant: Vec<Uuid>,
    s_id: Vec<&'a str>,
    s_subject: Vec<&'a str>,
    s_lane: Vec<i16>,
    s_before: Vec<i64>,
    s_after: Vec<i64>,
    s_state: Vec<Option<&'a str>>,
    c_id: Vec<Option<Uuid>>,
    c_hash: Vec<&'a [u8]>,
    c_first: Vec<Option<i32>>,
    c_last: Vec<Option<i32>>,
    f_stream: Vec<i32>,
    f_version: Vec<i64>,
    f_type: Vec<&'a str>,
    f_schema: Vec<i16>,
    f_payload: Vec<&'a str>,
    f_meta: Vec<&'a str>,
    f_event: Vec<Uuid>,
}

fn count(n: usize) -> i32 {
    i32::try_from(n).expect("a batch has far fewer than 2^31 parts")
}

impl<'a> Arguments<'a> {
    fn of(commands: &'a [Prepared], judged: &Judged<'a>, told: &Told) -> Self {
        let mut args = Self::default();
        for stream in &judged.streams {
            args.s_tenant.push(stream.tenant);
            args.s_id.push(&stream.write.key.stream);
            args.s_subject.push(&stream.write.key.subject);
            args.s_lane.push(stream.write.lane.number());
            args.s_before.push(stream.before);
            args.s_after.push(stream.after);
            args.s_state.push(stream.state);
        }
        for (n, (command, ruling)) in commands.iter().zip(&judged.rulings).enumerate() {
            // Of those it need not say again that they have been accepted before.
            let settled = told.repeats.contains_key(&n);
            args.c_id.push((!settled).then_some(command.id));
            args.c_hash.push(&command.body_hash);
            let ranks = match *ruling {
                Ruling::Wins(first, end) => Some((count(first) + 1, count(end))),
                Ruling::Is(_) => None,
            };
            args.c_first.push(ranks.map(|(first, _)| first));
            args.c_last.push(ranks.map(|(_, last)| last));
        }
        for winner in &judged.winners {
            let fact = &commands[winner.command].facts[winner.fact];
            args.f_stream.push(count(winner.stream) + 1);
            args.f_version.push(winner.version);
            args.f_type.push(fact.fact_type);
            args.f_schema.push(fact.schema_version);
            args.f_payload.push(&fact.payload);
            args.f_meta.push(&fact.meta);
            args.f_event.push(fact.event_id.0);
        }
        args
    }
}
