//! The topic as an `AsyncAPI` 3.0 document, made from what the relay writes and the settings it makes the topic with.

use serde_json::{Map, Value, json};

use super::topic::{FACTS_SETTINGS, Setting};
use crate::fact::Fact;
use crate::id::LANES;

/// The name of the topic, unless `TOPIC_PREFIX` says otherwise.
const TOPIC: &str = "cinelog.facts";

/// The version of `AsyncAPI`'s Kafka bindings that the document keeps to.
const BINDING: &str = "0.5.0";

/// `schemas/asyncapi.json`: one message per type and version, its payload in `schemas/events`.
pub fn asyncapi() -> Value {
    let names: Vec<(String, &str, i16)> = Fact::schemas()
        .into_iter()
        .map(|(fact_type, version, _)| (format!("{fact_type}.v{version}"), fact_type, version))
        .collect();
    let refer = |(name, ..): &(String, &str, i16)| {
        let target = format!("#/components/messages/{name}");
        (name.clone(), json!({"$ref": target}))
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Cinelog facts",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every fact of the log, exactly once, as CloudEvents 1.0 in binary mode. A lane, that is a \
                partition, holds all facts of a subject in order; `ce_position` is the order over all lanes. Read with \
                `isolation.level=read_committed`. Ignore fields and take values that you do not know; a message is \
                never changed in another way.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
        },
        "defaultContentType": "application/json",
        "channels": {"facts": {
            "address": TOPIC,
            "description": "The prefix `cinelog` is the setting TOPIC_PREFIX.",
            "messages": names.iter().map(refer).collect::<Map<_, _>>(),
            "bindings": {"kafka": {
                "topic": TOPIC,
                "partitions": LANES,
                "topicConfiguration": configuration(),
                "bindingVersion": BINDING
            }}
        }},
        "operations": {"relay": {
            "action": "send",
            "channel": {"$ref": "#/channels/facts"},
            "summary": "The relay copies the log into the topic in order, in Kafka transactions."
        }},
        "components": {
            "messages": names.iter().map(message).collect::<Map<_, _>>(),
            "messageTraits": {"fact": {
                "contentType": "application/json",
                "headers": {"$ref": "#/components/schemas/headers"},
                "bindings": {"kafka": {
                    "key": {"type": "string", "description": "The subject, e.g. `post-<uuid>`."},
                    "bindingVersion": BINDING
                }}
            }},
            "schemas": {"headers": headers()}
        }
    })
}

fn message((name, fact_type, version): &(String, &str, i16)) -> (String, Value) {
    let newest = Fact::TYPES.contains(&(fact_type, *version));
    let summary = if newest {
        "As it is written today."
    } else {
        "As it was written once; facts of this version stay in the topic as they are."
    };
    let message = json!({
        "name": fact_type,
        "title": format!("{fact_type}, version {version}"),
        "summary": summary,
        "traits": [{"$ref": "#/components/messageTraits/fact"}],
        "payload": {"$ref": format!("events/{name}.json")}
    });
    (name.clone(), message)
}

/// The topic's settings as the Kafka binding has them: numbers as numbers, policies as a list; those that only calm a
/// broker are no promise to readers.
fn configuration() -> Map<String, Value> {
    let promised = FACTS_SETTINGS
        .iter()
        .filter(|setting| !setting.name.starts_with("message.timestamp"));
    let entry = |setting: &Setting| {
        let value = match setting.value.parse::<i64>() {
            Ok(number) => json!(number),
            Err(_) if setting.name.ends_with(".policy") => json!([setting.value]),
            Err(_) => json!(setting.value),
        };
        (setting.name.to_owned(), value)
    };
    promised.map(entry).collect()
}

/// The headers of every record; [`super::to_headers`] writes them.
fn headers() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    let uuid = |what: &str| json!({"type": "string", "format": "uuid", "description": what});
    let number =
        |what: &str| json!({"type": "string", "pattern": "^[1-9][0-9]*$", "description": what});
    let optional = ["ce_correlation", "ce_cause"];
    let all = json!({
        "content-type": {"type": "string", "const": "application/json"},
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": uuid("The fact's own id."),
        "ce_type": text("The type, e.g. `post.published`."),
        "ce_source": {"type": "string", "pattern": "^cinelog:log/", "description": "The log, by its id."},
        "ce_subject": text("What people look at, e.g. `post-<uuid>`; also the record's key."),
        "ce_time": {
            "type": "string", "format": "date-time",
            "description": "When it was recorded; never goes back along positions."
        },
        "ce_dataschema": {
            "type": "string", "pattern": "^cinelog:events/.+\\.v[0-9]+\\.json$",
            "description": "The payload's schema, a file in schemas/events."
        },
        "ce_schemaversion": number("The version of the payload's schema."),
        "ce_logid": uuid("Which log this is. Stop at another one: the topic was forked."),
        "ce_position": number("The place in the whole log: 1, 2, 3 without gaps."),
        "ce_stream": text("The thing it happened to, e.g. `comment-<uuid>`."),
        "ce_streamversion": number("The place in its stream, from 1."),
        "ce_tenant": uuid("Whose data it is."),
        "ce_actor": uuid("Who acted; personal fields are sealed under this person's key."),
        "ce_command": text("The key of the command that was accepted."),
        "ce_correlation": text("Groups what came from one request."),
        "ce_cause": uuid("The fact that led to this one.")
    });
    let required: Vec<&String> = all
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .filter(|name| !optional.contains(&name.as_str()))
        .collect();
    json!({"type": "object", "required": required, "properties": all})
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;
    use uuid::Uuid;

    use super::*;
    use crate::log::record::tests::sample;
    use crate::log::to_headers;

    fn written(fact: &crate::envelope::Sealed) -> Value {
        let headers = to_headers(fact, Uuid::from_u128(9));
        let text = |bytes: Option<&[u8]>| std::str::from_utf8(bytes.unwrap()).unwrap().to_owned();
        let all = headers.iter();
        all.map(|header| (header.key.to_owned(), json!(text(header.value))))
            .collect::<Map<_, _>>()
            .into()
    }

    #[test]
    fn the_headers_that_the_relay_writes_are_those_of_the_document() {
        let mut fact = sample();
        let schema = headers();
        let valid = jsonschema::validate(&schema, &written(&fact)).map_err(|e| e.to_string());
        assert_eq!(valid, Ok(()));
        let names = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(json!(names(&written(&fact))), schema["required"]);
        (fact.meta.correlation, fact.meta.cause) = (Some("c".to_owned()), Some(Uuid::nil()));
        assert_eq!(names(&written(&fact)), names(&schema["properties"]));
    }
}
