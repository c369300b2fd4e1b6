//! One batch of commands as one call of `log.append`: its parameters, column by column, and its verdicts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::append::{Prepared, Verdict, Write};
use crate::id::Position;

/// What `log.append` says of one command: verdict, first and last position, time.
type VerdictRow = (String, Option<i64>, Option<i64>, Option<DateTime<Utc>>);

/// One call of `log.append`, as the transaction that `connection` is in or as its own. `known` is a position that the log
/// has reached for certain: the end is looked for above it.
pub(crate) async fn append(
    connection: &mut PgConnection,
    commands: &[Prepared],
    known: Position,
) -> Result<Vec<Verdict>, sqlx::Error> {
    let args = Arguments::of(commands);
    let rows: Vec<VerdictRow> = sqlx::query_as(
        "SELECT verdict, first_position, last_position, recorded_at FROM log.append(
             $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
    )
    .bind(args.s_tenant)
    .bind(args.s_id)
    .bind(args.s_subject)
    .bind(args.s_lane)
    .bind(args.c_tenant)
    .bind(args.c_actor)
    .bind(args.c_route)
    .bind(args.c_key)
    .bind(args.c_hash)
    .bind(args.x_command)
    .bind(args.x_stream)
    .bind(args.x_expected)
    .bind(args.x_state)
    .bind(args.f_command)
    .bind(args.f_stream)
    .bind(args.f_type)
    .bind(args.f_schema)
    .bind(args.f_payload)
    .bind(args.f_meta)
    .bind(args.f_event)
    .bind(known)
    .fetch_all(connection)
    .await?;
    let verdicts: Option<Vec<_>> = rows.into_iter().map(verdict).collect();
    match verdicts {
        Some(verdicts) if verdicts.len() == commands.len() => Ok(verdicts),
        _ => Err(sqlx::Error::Protocol(
            "log.append gave verdicts that make no sense".to_owned(),
        )),
    }
}

fn verdict(row: VerdictRow) -> Option<Verdict> {
    let (verdict, first, last, at) = row;
    Some(match verdict.as_str() {
        "accepted" => Verdict::Accepted {
            first: Position(first?),
            at: at?,
        },
        "repeated" => Verdict::Repeated {
            first: Position(first?),
            last: Position(last?),
        },
        "reused" => Verdict::KeyReused,
        "conflict" => Verdict::Conflict,
        "subject" => Verdict::SubjectDiffers,
        _ => return None,
    })
}

/// The parameters of `log.append`, column by column.
#[derive(Default)]
struct Arguments<'a> {
    s_tenant: Vec<Uuid>,
    s_id: Vec<&'a str>,
    s_subject: Vec<&'a str>,
    s_lane: Vec<i16>,
    c_tenant: Vec<Uuid>,
    c_actor: Vec<Uuid>,
    c_route: Vec<&'a str>,
    c_key: Vec<&'a str>,
    c_hash: Vec<&'a [u8]>,
    x_command: Vec<i32>,
    x_stream: Vec<i32>,
    x_expected: Vec<i64>,
    x_state: Vec<Option<&'a str>>,
    f_command: Vec<i32>,
    f_stream: Vec<i32>,
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
    fn of(commands: &'a [Prepared]) -> Self {
        let mut args = Self::default();
        // Sorted by bytes, in every process alike: streams are locked in this order.
        let mut streams: Vec<(Uuid, &'a Write)> = commands
            .iter()
            .flat_map(|c| c.writes.iter().map(|w| (c.id.tenant.0, w)))
            .collect();
        streams.sort_by(|(t, w), (u, v)| (t, &w.key.stream).cmp(&(u, &v.key.stream)));
        streams.dedup_by(|(t, w), (u, v)| (t, &w.key.stream) == (u, &v.key.stream));
        for (tenant, write) in &streams {
            args.s_tenant.push(*tenant);
            args.s_id.push(&write.key.stream);
            args.s_subject.push(&write.key.subject);
            args.s_lane.push(write.lane.number());
        }
        for (n, command) in commands.iter().enumerate() {
            let places: Vec<i32> = command
                .writes
                .iter()
                .map(|write| {
                    let wanted = (&command.id.tenant.0, &write.key.stream);
                    let place = streams.binary_search_by(|(t, w)| (t, &w.key.stream).cmp(&wanted));
                    count(place.expect("every write is among the streams") + 1)
                })
                .collect();
            args.push(count(n + 1), command, &places);
        }
        args
    }

    fn push(&mut self, number: i32, command: &'a Prepared, places: &[i32]) {
        self.c_tenant.push(command.id.tenant.0);
        self.c_actor.push(command.id.actor.0);
        self.c_route.push(&command.id.route);
        self.c_key.push(&command.id.key);
        self.c_hash.push(&command.body_hash);
        for (write, place) in command.writes.iter().zip(places) {
            self.x_command.push(number);
            self.x_stream.push(*place);
            self.x_expected.push(write.expected.number());
            self.x_state.push(write.state.as_deref());
        }
        for fact in &command.facts {
            self.f_command.push(number);
            self.f_stream.push(places[fact.write]);
            self.f_type.push(fact.fact_type);
            self.f_schema.push(fact.schema_version);
            self.f_payload.push(&fact.payload);
            self.f_meta.push(&fact.meta);
            self.f_event.push(fact.event_id.0);
        }
    }
}
