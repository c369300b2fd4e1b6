//! A fact as a line of JSON: the same names as the columns of the Parquet files, the payload as the JSON value it is.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use crate::envelope::{Meta, Sealed};
use crate::id::{EventId, Lane, Position, TenantId, UserId};
use crate::store::MAX_ENVELOPE_BYTES;

#[derive(Serialize)]
struct Line<'a> {
    position: i64,
    lane: i16,
    tenant: TenantId,
    stream: &'a str,
    version: i64,
    subject: &'a str,
    r#type: &'a str,
    schema_version: i16,
    /// Written as Postgres gives it, so that no number loses a digit.
    payload: &'a RawValue,
    actor: UserId,
    command: &'a str,
    correlation: Option<&'a str>,
    cause: Option<Uuid>,
    event_id: EventId,
    recorded_at: String,
}

/// Writes `fact` as one line.
pub fn write_line(fact: &Sealed, out: &mut impl Write) -> io::Result<()> {
    let line = Line {
        position: fact.position.0,
        lane: fact.lane.number(),
        tenant: fact.tenant,
        stream: &fact.stream,
        version: fact.version,
        subject: &fact.subject,
        r#type: &fact.fact_type,
        schema_version: fact.schema_version,
        payload: serde_json::from_str(&fact.payload)?,
        actor: fact.meta.actor,
        command: &fact.meta.command,
        correlation: fact.meta.correlation.as_deref(),
        cause: fact.meta.cause,
        event_id: fact.event_id,
        recorded_at: fact
            .recorded_at
            .to_rfc3339_opts(SecondsFormat::Micros, true),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// `fact` as one line, without its end.
pub fn line(fact: &Sealed) -> io::Result<String> {
    let mut line = Vec::with_capacity(fact.payload.len() + 512);
    write_line(fact, &mut line)?;
    line.pop();
    String::from_utf8(line).map_err(io::Error::other)
}

/// A segment in the making.
pub(crate) struct Lines<W: Write> {
    out: Encoder<'static, BufWriter<W>>,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub(crate) fn new(out: W, level: i32) -> io::Result<Self> {
        let mut out = Encoder::new(BufWriter::with_capacity(256 * 1024, out), level)?;
        // A reader then knows a damaged file from a good one.
        out.include_checksum(true)?;
        Ok(Self { out, line: vec![] })
    }

    pub(crate) fn push(&mut self, facts: &[Sealed]) -> io::Result<()> {
        for fact in facts {
            self.line.clear();
            write_line(fact, &mut self.line)?;
            self.out.write_all(&self.line)?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        self.out.finish()?.flush()
    }
}

/// A line as it is read: texts may hold escapes, so they are owned.
#[derive(Deserialize)]
struct ReadLine<'a> {
    position: Position,
    lane: i32,
    tenant: TenantId,
    stream: String,
    version: i64,
    subject: String,
    r#type: String,
    schema_version: i16,
    #[serde(borrow)]
    payload: &'a RawValue,
    actor: UserId,
    command: String,
    correlation: Option<String>,
    cause: Option<Uuid>,
    event_id: EventId,
    recorded_at: DateTime<Utc>,
}

/// The fact that [`line()`] made this text of: the same fact to the last byte.
pub fn parse_line(text: &[u8]) -> io::Result<Sealed> {
    let line: ReadLine<'_> = serde_json::from_slice(text)?;
    let lane = Lane::new(line.lane).ok_or_else(|| io::Error::other("no such lane"))?;
    Ok(Sealed {
        position: line.position,
        lane,
        tenant: line.tenant,
        stream: line.stream,
        version: line.version,
        subject: line.subject,
        fact_type: line.r#type,
        schema_version: line.schema_version,
        payload: line.payload.get().to_owned(),
        meta: Meta {
            actor: line.actor,
            command: line.command,
            correlation: line.correlation,
            cause: line.cause,
        },
        event_id: line.event_id,
        recorded_at: line.recorded_at,
    })
}

/// No line is longer: an envelope, its payload written with more escapes and spaces than the log measured.
const LONGEST_LINE: u64 = 8 * MAX_ENVELOPE_BYTES as u64;

/// A segment that is being read.
pub(crate) struct Reading<R: Read> {
    lines: BufReader<Decoder<'static, BufReader<R>>>,
    line: Vec<u8>,
}

impl<R: Read> Reading<R> {
    pub(crate) fn new(segment: R) -> io::Result<Self> {
        Ok(Self {
            lines: BufReader::with_capacity(256 * 1024, Decoder::new(segment)?),
            line: vec![],
        })
    }

    /// The next fact; none at the end.
    pub(crate) fn next_fact(&mut self) -> io::Result<Option<Sealed>> {
        self.line.clear();
        let mut line = (&mut self.lines).take(LONGEST_LINE);
        if line.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            return Err(io::Error::other("a line has no end"));
        }
        parse_line(&self.line).map(Some)
    }
}

impl<R: Read> std::fmt::Debug for Reading<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ZSTD_LEVEL;
    use crate::export::sample::sample;

    #[test]
    fn a_line_has_every_column_and_the_payload_as_it_is_stored() {
        let fact = Sealed {
            payload: r#"{"n": 1.10, "s": "a\nb"}"#.to_owned(),
            ..sample(7)
        };
        let text = line(&fact).unwrap();
        let wanted = concat!(
            r#"{"position":7,"lane":3,"tenant":"00000000-0000-0000-0000-000000000001","stream":"comment-2","#,
            r#""version":3,"subject":"post-1","type":"comment.added","schema_version":1,"#,
            r#""payload":{"n": 1.10, "s": "a\nb"},"actor":"00000000-0000-0000-0000-000000000002","command":"c","#,
            r#""correlation":null,"cause":null,"event_id":"00000000-0000-0000-0000-000000000003","#,
            r#""recorded_at":"2023-11-14T22:13:20.000100Z"}"#
        );
        assert_eq!(text, wanted);
        assert_eq!(parse_line(text.as_bytes()).unwrap(), fact);
    }

    #[test]
    fn what_is_no_json_is_not_written_as_json() {
        let fact = Sealed {
            payload: "{".to_owned(),
            ..sample(7)
        };
        assert!(line(&fact).is_err());
    }

    #[test]
    fn a_segment_opens_to_its_lines_whatever_pieces_it_came_in() {
        let facts: Vec<_> = (1..=5_000).map(sample).collect();
        let made = |piece: usize| {
            let mut bytes = vec![];
            let mut lines = Lines::new(&mut bytes, ZSTD_LEVEL).unwrap();
            facts
                .chunks(piece)
                .for_each(|piece| lines.push(piece).unwrap());
            lines.finish().unwrap();
            bytes
        };
        let whole = made(5_000);
        assert_eq!(whole, made(7));
        let text = String::from_utf8(zstd::decode_all(&*whole).unwrap()).unwrap();
        assert_eq!(text.lines().count(), 5_000);
        assert_eq!(text.lines().last().unwrap(), line(&facts[4_999]).unwrap());
        let mut reading = Reading::new(&*whole).unwrap();
        for fact in facts {
            assert_eq!(reading.next_fact().unwrap(), Some(fact));
        }
        assert_eq!(reading.next_fact().unwrap(), None);
    }

    #[test]
    fn a_segment_that_was_cut_is_an_error_and_no_end() {
        let mut bytes = vec![];
        let mut lines = Lines::new(&mut bytes, ZSTD_LEVEL).unwrap();
        lines.push(&[sample(1)]).unwrap();
        lines.finish().unwrap();
        let mut reading = Reading::new(&bytes[..bytes.len() - 8]).unwrap();
        let read = std::iter::from_fn(|| reading.next_fact().transpose());
        assert!(read.take(3).any(|fact| fact.is_err()));
    }
}
