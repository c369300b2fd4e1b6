//! A fact as a line of JSON: the same names as the columns of the Parquet files, the payload as the JSON value it is.

use std::io::{self, BufWriter, Write};

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use zstd::stream::write::Encoder;

use super::ZSTD_LEVEL;
use crate::envelope::Sealed;
use crate::id::{EventId, TenantId, UserId};

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
pub(super) struct Lines<W: Write> {
    out: Encoder<'static, BufWriter<W>>,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut out = Encoder::new(BufWriter::with_capacity(256 * 1024, out), ZSTD_LEVEL)?;
        // A reader then knows a damaged file from a good one.
        out.include_checksum(true)?;
        Ok(Self { out, line: vec![] })
    }

    pub(super) fn push(&mut self, facts: &[Sealed]) -> io::Result<()> {
        for fact in facts {
            self.line.clear();
            write_line(fact, &mut self.line)?;
            self.out.write_all(&self.line)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.out.finish()?.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let mut lines = Lines::new(&mut bytes).unwrap();
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
    }
}
