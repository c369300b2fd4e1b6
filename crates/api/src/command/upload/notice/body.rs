//! What providers send.

use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use utoipa::ToSchema;

use crate::problem::{Kind, Problem};

/// Objects that have come.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"keys": ["incoming/00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002"]}))]
pub(crate) struct HmacNotice {
    /// Their names in the bucket, a thousand at most.
    pub(super) keys: Vec<String>,
}

/// An event of R2, or a batch of them.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"action": "PutObject", "object": {"key": "incoming/00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002"}}))]
pub(crate) enum R2Notice {
    /// As a queue's consumer gets them.
    Batch {
        /// Each with its event.
        messages: Vec<R2Message>,
    },
    /// One.
    One(R2Event),
}

/// A message of a queue.
#[derive(Deserialize, ToSchema)]
pub(crate) struct R2Message {
    body: R2Event,
}

/// What happened to an object.
#[derive(Deserialize, ToSchema)]
pub(crate) struct R2Event {
    /// `PutObject`, `CompleteMultipartUpload`, `CopyObject`; of others nothing comes.
    action: String,
    object: R2Object,
}

/// An object.
#[derive(Deserialize, ToSchema)]
pub(crate) struct R2Object {
    /// Its name in the bucket.
    key: String,
}

impl R2Notice {
    /// Names of objects that were created.
    pub(super) fn created(&self) -> impl Iterator<Item = &str> {
        let events: Vec<&R2Event> = match self {
            Self::Batch { messages } => messages.iter().map(|message| &message.body).collect(),
            Self::One(event) => vec![event],
        };
        let created = |event: &R2Event| {
            ["PutObject", "CompleteMultipartUpload", "CopyObject"].contains(&&*event.action)
        };
        let created = events.into_iter().filter(move |event| created(event));
        created.map(|event| event.object.key.as_str())
    }
}

/// A message of Amazon SNS, as it is posted.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(example = json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:eu-west-1:1:uploads", "Message": "{}", "Timestamp": "2026-01-01T00:00:00.000Z", "SignatureVersion": "2", "Signature": "AA==", "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"}))]
pub(crate) struct SnsNotice {
    /// `Notification` or `SubscriptionConfirmation`.
    pub(super) r#type: String,
    /// Of this message.
    pub(super) message_id: String,
    /// From where it is.
    pub(super) topic_arn: String,
    /// What S3 says, as JSON in a text.
    pub(super) message: String,
    /// RFC 3339.
    pub(super) timestamp: String,
    /// `2`.
    pub(super) signature_version: String,
    /// Base64.
    pub(super) signature: String,
    /// Where the key of the signature is.
    #[serde(rename = "SigningCertURL")]
    pub(super) signing_cert_url: String,
    #[serde(default)]
    pub(super) subject: Option<String>,
    #[serde(default)]
    pub(super) token: Option<String>,
    /// Where a subscription is confirmed.
    #[serde(default, rename = "SubscribeURL")]
    pub(super) subscribe_url: Option<String>,
}

#[derive(Deserialize)]
struct S3Events {
    /// None in the message that tests the way.
    #[serde(default, rename = "Records")]
    records: Vec<S3Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Event {
    event_name: String,
    s3: S3Place,
}

#[derive(Deserialize)]
struct S3Place {
    object: R2Object,
}

impl SnsNotice {
    /// Whether it asks to confirm that its topic may send here.
    pub(super) fn subscribes(&self) -> bool {
        self.r#type == "SubscriptionConfirmation"
    }

    /// Names of objects that were created. S3 writes them as forms do.
    pub(super) fn created(&self) -> Result<Vec<String>, Problem> {
        let events: S3Events = serde_json::from_str(&self.message)
            .map_err(|error| Problem::from(Kind::BodyNotJson).detail(error.to_string()))?;
        let created = events
            .records
            .into_iter()
            .filter(|event| event.event_name.starts_with("ObjectCreated:"));
        let named = |event: S3Event| {
            let key = event.s3.object.key;
            form_urlencoded::parse(key.as_bytes())
                .next()
                .map(|(name, _)| name.into_owned())
        };
        Ok(created.filter_map(named).collect())
    }

    /// What is signed, as SNS has it: names and values of these fields in their order, a line each.
    pub(super) fn signed(&self) -> Option<String> {
        let (message, id) = (("Message", &self.message), ("MessageId", &self.message_id));
        let (at, topic) = (
            ("Timestamp", &self.timestamp),
            ("TopicArn", &self.topic_arn),
        );
        let kind = ("Type", &self.r#type);
        let fields = match self.r#type.as_str() {
            "Notification" => {
                let mut fields = vec![message, id, at, topic, kind];
                if let Some(subject) = &self.subject {
                    fields.insert(2, ("Subject", subject));
                }
                fields
            }
            "SubscriptionConfirmation" => {
                let url = ("SubscribeURL", self.subscribe_url.as_ref()?);
                vec![
                    message,
                    id,
                    url,
                    at,
                    ("Token", self.token.as_ref()?),
                    topic,
                    kind,
                ]
            }
            _ => return None,
        };
        let lines = fields
            .iter()
            .flat_map(|(name, value)| [*name, "\n", value, "\n"]);
        Some(lines.collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_created_is_named() {
        let one = |action: &str| json!({"action": action, "object": {"key": "a"}, "bucket": "b"});
        let batch =
            json!({"messages": [{"body": one("PutObject")}, {"body": one("DeleteObject")}]});
        for (notice, count) in [
            (one("CompleteMultipartUpload"), 1),
            (one("DeleteObject"), 0),
            (batch, 1),
        ] {
            let read: R2Notice = serde_json::from_value(notice).unwrap();
            assert_eq!(read.created().count(), count);
        }
    }

    #[test]
    fn names_are_read_as_s3_writes_them() {
        let records = json!({"Records": [
            {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "in/a+b%2Fc"}}},
            {"eventName": "ObjectRemoved:Delete", "s3": {"object": {"key": "in/d"}}},
        ]});
        let mut notice: SnsNotice = serde_json::from_value(json!({
            "Type": "Notification", "MessageId": "1", "TopicArn": "t", "Message": records.to_string(), "Timestamp": "now",
            "SignatureVersion": "2", "Signature": "", "SigningCertURL": "", "Subject": "s",
        }))
        .unwrap();
        assert_eq!(notice.created().unwrap(), ["in/a b/c"]);
        assert!(
            notice
                .signed()
                .unwrap()
                .contains("MessageId\n1\nSubject\ns\nTimestamp\nnow\n")
        );
        notice.message = json!({"Event": "s3:TestEvent"}).to_string();
        assert!(notice.created().unwrap().is_empty());
        notice.r#type = "Other".to_owned();
        assert_eq!(notice.signed(), None);
    }
}
