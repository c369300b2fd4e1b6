//! A fact as a Kafka record and back: CloudEvents 1.0 in binary mode.
//!
//! The value is the payload's text as stored, the key is the subject, the partition is the lane, and every other field
//! is a header, so that nothing is lost and no reader needs to parse what it only passes on.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::Message;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use uuid::Uuid;

use crate::envelope::{Meta, Sealed};
use crate::id::{Lane, Position};

/// Why a record is not a fact of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A header is not there.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A header does not hold what it should.
    #[error("header {0} cannot be read")]
    Unreadable(&'static str),
    /// The key or the value is missing or not UTF-8.
    #[error("its {0} is not a text")]
    NotText(&'static str),
    /// Its partition is no lane.
    #[error("partition {0} is not a lane")]
    NoLane(i32),
}

/// The headers of a fact's record, for a fact of the log `log_id`.
pub fn to_headers(fact: &Sealed, log_id: Uuid) -> OwnedHeaders {
    let time = fact
        .recorded_at
        .to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let schema = format!(
        "cinelog:events/{}.v{}.json",
        fact.fact_type, fact.schema_version
    );
    let Meta {
        actor,
        command,
        correlation,
        cause,
    } = &fact.meta;
    let always: [(&str, Cow<'_, str>); 15] = [
        ("content-type", "application/json".into()),
        ("ce_specversion", "1.0".into()),
        ("ce_id", fact.event_id.to_string().into()),
        ("ce_type", fact.fact_type.as_str().into()),
        ("ce_source", format!("cinelog:log/{log_id}").into()),
        ("ce_subject", fact.subject.as_str().into()),
        ("ce_time", time.into()),
        ("ce_dataschema", schema.into()),
        ("ce_schemaversion", fact.schema_version.to_string().into()),
        ("ce_logid", log_id.to_string().into()),
        ("ce_position", fact.position.to_string().into()),
        ("ce_stream", fact.stream.as_str().into()),
        ("ce_streamversion", fact.version.to_string().into()),
        ("ce_tenant", fact.tenant.to_string().into()),
        ("ce_actor", actor.to_string().into()),
    ];
    let mut headers = OwnedHeaders::new_with_capacity(always.len() + 3);
    for (key, value) in &always {
        headers = headers.insert(Header {
            key,
            value: Some(value.as_ref()),
        });
    }
    headers = headers.insert(Header {
        key: "ce_command",
        value: Some(command),
    });
    if let Some(correlation) = correlation {
        headers = headers.insert(Header {
            key: "ce_correlation",
            value: Some(correlation),
        });
    }
    if let Some(cause) = cause {
        headers = headers.insert(Header {
            key: "ce_cause",
            value: Some(&cause.to_string()),
        });
    }
    headers
}

/// The fact that a record carries, and the log it is of.
pub fn from_record(record: &impl Message) -> Result<(Uuid, Sealed), RecordError> {
    let read = Read::new(record);
    let fact = Sealed {
        position: Position(read.parsed("ce_position")?),
        lane: Lane::new(record.partition()).ok_or(RecordError::NoLane(record.partition()))?,
        tenant: read.parsed("ce_tenant")?,
        stream: read.text("ce_stream")?.to_owned(),
        version: read.parsed("ce_streamversion")?,
        subject: read.text("ce_subject")?.to_owned(),
        fact_type: read.text("ce_type")?.to_owned(),
        schema_version: read.parsed("ce_schemaversion")?,
        payload: text(record.payload())
            .ok_or(RecordError::NotText("value"))?
            .to_owned(),
        meta: Meta {
            actor: read.parsed("ce_actor")?,
            command: read.text("ce_command")?.to_owned(),
            correlation: read.optional("ce_correlation")?.map(str::to_owned),
            cause: read
                .optional("ce_cause")?
                .map(|text| {
                    text.parse()
                        .map_err(|_| RecordError::Unreadable("ce_cause"))
                })
                .transpose()?,
        },
        event_id: read.parsed("ce_id")?,
        recorded_at: read.parsed::<DateTime<Utc>>("ce_time")?,
    };
    Ok((read.parsed("ce_logid")?, fact))
}

/// A record's headers, found by name.
struct Read<'a>(Vec<(&'a str, Option<&'a [u8]>)>);

impl<'a> Read<'a> {
    fn new(record: &'a impl Message) -> Self {
        let headers = record.headers().into_iter().flat_map(Headers::iter);
        Self(headers.map(|header| (header.key, header.value)).collect())
    }

    fn optional(&self, name: &'static str) -> Result<Option<&'a str>, RecordError> {
        let Some((_, value)) = self.0.iter().find(|(key, _)| *key == name) else {
            return Ok(None);
        };
        text(*value).map(Some).ok_or(RecordError::Unreadable(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, RecordError> {
        self.optional(name)?.ok_or(RecordError::Missing(name))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, RecordError> {
        self.text(name)?
            .parse()
            .map_err(|_| RecordError::Unreadable(name))
    }
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;
    use rdkafka::message::{OwnedMessage, Timestamp};

    use super::*;
    use crate::id::{EventId, TenantId, UserId};

    fn record(fact: &Sealed, headers: OwnedHeaders) -> OwnedMessage {
        OwnedMessage::new(
            Some(fact.payload.clone().into_bytes()),
            Some(fact.subject.clone().into_bytes()),
            "cinelog.facts".to_owned(),
            Timestamp::CreateTime(fact.recorded_at.timestamp_millis()),
            fact.lane.number().into(),
            7,
            Some(headers),
        )
    }

    prop_compose! {
        fn facts()(
            ids in prop::array::uniform4(any::<u128>()),
            (position, version, schema_version) in (1..i64::MAX, 1..i64::MAX, 1..i16::MAX),
            (stream, subject, fact_type) in (".{1,40}", ".{1,40}", "[a-z]{1,9}\\.[a-z]{1,9}"),
            (payload, command) in (".{0,200}", ".{0,60}"),
            (correlation, cause) in (prop::option::of(".{0,60}"), prop::option::of(any::<u128>())),
            micros in 0..4_102_444_800_000_000_i64,
        ) -> Sealed {
            let tenant = TenantId(Uuid::from_u128(ids[0]));
            Sealed {
                position: Position(position),
                lane: Lane::of(tenant, &subject),
                tenant, stream, version, subject, fact_type, schema_version, payload,
                meta: Meta {
                    actor: UserId(Uuid::from_u128(ids[1])),
                    command, correlation, cause: cause.map(Uuid::from_u128),
                },
                event_id: EventId(Uuid::from_u128(ids[2])),
                recorded_at: Utc.timestamp_micros(micros).unwrap(),
            }
        }
    }

    proptest! {
        #[test]
        fn a_fact_comes_back_from_its_record_as_it_was(fact in facts(), log in any::<u128>()) {
            let log = Uuid::from_u128(log);
            let record = record(&fact, to_headers(&fact, log));
            let headers = record.headers().unwrap();
            let headers = headers.iter().map(|header| header.key.len() + header.value.unwrap_or_default().len());
            let bytes = headers.sum::<usize>() + fact.subject.len() + fact.payload.len();
            prop_assert_eq!(fact.encoded_bytes(), bytes);
            prop_assert_eq!(from_record(&record), Ok((log, fact)));
        }
    }

    pub(in crate::log) fn sample() -> Sealed {
        let tenant = TenantId(Uuid::from_u128(1));
        Sealed {
            position: Position(41),
            lane: Lane::of(tenant, "post-1"),
            tenant,
            stream: "comment-2".to_owned(),
            version: 3,
            subject: "post-1".to_owned(),
            fact_type: "comment.added".to_owned(),
            schema_version: 1,
            payload: r#"{"a": 1}"#.to_owned(),
            meta: Meta {
                actor: UserId(Uuid::from_u128(2)),
                command: "c".to_owned(),
                correlation: None,
                cause: None,
            },
            event_id: EventId(Uuid::from_u128(3)),
            recorded_at: Utc.timestamp_micros(1_700_000_000_000_001).unwrap(),
        }
    }

    #[test]
    fn headers_are_cloudevents_in_binary_mode() {
        let record = record(&sample(), to_headers(&sample(), Uuid::from_u128(9)));
        let read = Read::new(&record);
        for (name, value) in [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", "00000000-0000-0000-0000-000000000003"),
            ("ce_type", "comment.added"),
            (
                "ce_source",
                "cinelog:log/00000000-0000-0000-0000-000000000009",
            ),
            ("ce_subject", "post-1"),
            ("ce_time", "2023-11-14T22:13:20.000001Z"),
            ("ce_dataschema", "cinelog:events/comment.added.v1.json"),
            ("ce_position", "41"),
            ("ce_streamversion", "3"),
        ] {
            assert_eq!(read.text(name), Ok(value), "{name}");
        }
        assert_eq!(read.optional("ce_cause"), Ok(None));
    }

    #[test]
    fn a_record_that_lacks_a_header_or_garbles_one_is_told_by_its_name() {
        let none = record(&sample(), OwnedHeaders::new());
        assert_eq!(from_record(&none), Err(RecordError::Missing("ce_position")));
        let garbled = OwnedHeaders::new().insert(Header {
            key: "ce_position",
            value: Some("x"),
        });
        let garbled = record(&sample(), garbled);
        assert_eq!(
            from_record(&garbled),
            Err(RecordError::Unreadable("ce_position"))
        );
    }
}
