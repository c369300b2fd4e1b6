//! One batch of commands as one call of `log.append` when its streams are as presumed; else as a transaction that looks first.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::append::{Prepared, Verdict};
use super::judge::{Heads, Judged, Ruling, Stream, Told};
use super::known::Epoch;
use crate::id::Position;

/// How often a batch is judged anew when others are faster, before its commands are decided anew.
const ROUNDS: usize = 8;

/// Where `log.append` wrote: the position that rank 0 would have, and when; nothing where nobody won.
#[derive(Default)]
struct Written(Option<(i64, DateTime<Utc>)>);

/// How a stream or a command stands.
#[derive(sqlx::FromRow)]
struct Row {
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
    let judged = Judged::new(commands, epoch, heads, &Told::default());
    if let Some(written) = write(connection, commands, &judged, known).await? {
        heads.keep(&judged);
        return verdicts(&judged, &written).ok_or_else(senseless);
    }
    // Another process was faster, or a command is a repeat.
    for _ in 0..ROUNDS {
        // In one transaction, so that streams stay as they are told: this batch comes to its end however fast the others are.
        let mut tx = connection.begin().await?;
        let told = look(&mut tx, commands, &judged).await?;
        let judged = Judged::new(commands, epoch, heads, &told);
        // What nobody won rests on what was told under the locks.
        let written = if judged.winners.is_empty() {
            Some(Written::default())
        } else {
            write(&mut tx, commands, &judged, known).await?
        };
        let Some(written) = written else {
            // A stream that was not there has been begun, or a command accepted: the next look finds it. Locks are taken anew,
            // in their order.
            tx.rollback().await?;
            continue;
        };
        tx.commit().await?;
        heads.keep(&judged);
        return verdicts(&judged, &written).ok_or_else(senseless);
    }
    Ok(vec![Verdict::Conflict(None); commands.len()])
}

fn senseless() -> sqlx::Error {
    sqlx::Error::Protocol("the log gave an answer that makes no sense".to_owned())
}

fn verdicts(judged: &Judged<'_>, written: &Written) -> Option<Vec<Verdict>> {
    let verdict = |ruling: &Ruling| match *ruling {
        Ruling::Is(verdict) => Some(verdict),
        Ruling::Wins(first, _) => {
            let (base, at) = written.0?;
            let first = Position(base + i64::from(count(first)) + 1);
            Some(Verdict::Accepted { first, at })
        }
    };
    judged.rulings.iter().map(verdict).collect()
}

/// Writes what was won; none, and nothing is written, where what that rests on is not so.
async fn write(
    connection: &mut PgConnection,
    commands: &[Prepared],
    judged: &Judged<'_>,
    known: Position,
) -> Result<Option<Written>, sqlx::Error> {
    let args = Arguments::of(commands, judged);
    let (done, base, at): (bool, Option<i64>, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT done, base, recorded_at
         FROM log.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                         $23)",
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
    .bind(args.l_command)
    .bind(args.l_tenant)
    .bind(args.l_id)
    .bind(args.l_version)
    .bind(known)
    .fetch_one(connection)
    .await?;
    Ok(done.then(|| Written(base.zip(at))))
}

/// How the streams of a batch and its commands stand; the streams stay locked.
async fn look(
    connection: &mut PgConnection,
    commands: &[Prepared],
    judged: &Judged<'_>,
) -> Result<Told, sqlx::Error> {
    let streams = || judged.streams.iter().map(|s| (s.tenant, &s.write.key));
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT stream, version, same_subject, command, first_position, last_position, same_body
         FROM log.look($1, $2, $3, $4, $5)",
    )
    .bind(streams().map(|(tenant, _)| tenant).collect::<Vec<_>>())
    .bind(streams().map(|(_, key)| &*key.stream).collect::<Vec<_>>())
    .bind(streams().map(|(_, key)| &*key.subject).collect::<Vec<_>>())
    .bind(commands.iter().map(|c| c.id).collect::<Vec<_>>())
    .bind(
        commands
            .iter()
            .map(|c| &c.body_hash[..])
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    tell(rows, judged.streams.len()).ok_or_else(senseless)
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

/// The parameters of `log.append`, column by column: streams, commands that win, their facts, what losing rests on.
#[derive(Default)]
struct Arguments<'a> {
    s_tenant: Vec<Uuid>,
    s_id: Vec<&'a str>,
    s_subject: Vec<&'a str>,
    s_lane: Vec<i16>,
    s_before: Vec<i64>,
    s_after: Vec<i64>,
    s_state: Vec<Option<&'a str>>,
    c_id: Vec<Uuid>,
    c_hash: Vec<&'a [u8]>,
    c_first: Vec<i32>,
    c_last: Vec<i32>,
    f_stream: Vec<i32>,
    f_version: Vec<i64>,
    f_type: Vec<&'a str>,
    f_schema: Vec<i16>,
    f_payload: Vec<&'a str>,
    f_meta: Vec<&'a str>,
    f_event: Vec<Uuid>,
    l_command: Vec<Uuid>,
    l_tenant: Vec<Uuid>,
    l_id: Vec<&'a str>,
    l_version: Vec<i64>,
}

fn count(n: usize) -> i32 {
    i32::try_from(n).expect("a batch has far fewer than 2^31 parts")
}

impl<'a> Arguments<'a> {
    fn of(commands: &'a [Prepared], judged: &Judged<'a>) -> Self {
        let mut args = Self::default();
        // Each stream's index among those that are written.
        let mut written = Vec::with_capacity(judged.streams.len());
        for stream in &judged.streams {
            if stream.after > stream.before {
                args.writes(stream);
            } else if stream.presumed {
                args.l_tenant.push(stream.tenant);
                args.l_id.push(&stream.write.key.stream);
                args.l_version.push(stream.before);
            }
            written.push(count(args.s_id.len()));
        }
        for (command, ruling) in commands.iter().zip(&judged.rulings) {
            match *ruling {
                Ruling::Wins(first, end) => {
                    args.c_id.push(command.id);
                    args.c_hash.push(&command.body_hash);
                    args.c_first.push(count(first) + 1);
                    args.c_last.push(count(end));
                }
                Ruling::Is(Verdict::Repeated { .. } | Verdict::KeyReused) => {}
                Ruling::Is(_) => args.l_command.push(command.id),
            }
        }
        for winner in &judged.winners {
            let fact = &commands[winner.command].facts[winner.fact];
            args.f_stream.push(written[winner.stream]);
            args.f_version.push(winner.version);
            args.f_type.push(fact.fact_type);
            args.f_schema.push(fact.schema_version);
            args.f_payload.push(&fact.payload);
            args.f_meta.push(&fact.meta);
            args.f_event.push(fact.event_id.0);
        }
        args
    }

    fn writes(&mut self, stream: &Stream<'a>) {
        self.s_tenant.push(stream.tenant);
        self.s_id.push(&stream.write.key.stream);
        self.s_subject.push(&stream.write.key.subject);
        self.s_lane.push(stream.write.lane.number());
        self.s_before.push(stream.before);
        self.s_after.push(stream.after);
        self.s_state.push(stream.state);
    }
}
