//! What the log holds about one person, for that person alone: their own facts with what they wrote readable, and of what others did
//! those facts that they may know of. Neither who did those nor what others wrote or thought of the person is told.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::envelope::Recorded;
use crate::fact::Fact;
use crate::id::{Position, StreamKey, UserId};
use crate::seal::Personal;

/// A fact as the person it is about reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OwnFact {
    /// Its place in the log.
    pub position: Position,
    /// What happened.
    pub r#type: &'static str,
    /// The version of the payload's schema.
    pub schema_version: i16,
    /// What it happened to.
    pub stream: String,
    /// What people look at.
    pub subject: String,
    /// Whether the person did it.
    pub own: bool,
    /// When it was recorded.
    #[serde(serialize_with = "micros")]
    pub recorded_at: DateTime<Utc>,
    /// What it says, with texts in the clear; null where one is unreadable.
    pub payload: Value,
}

fn micros<S: serde::Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// `recorded`, opened, as `person` may read it; none: it is none of theirs.
pub fn own_fact(recorded: Recorded, person: UserId) -> serde_json::Result<Option<OwnFact>> {
    let own = recorded.meta.actor == person;
    if !own && !is_told(&recorded, person) {
        return Ok(None);
    }
    let mut fact = recorded.fact;
    let mut texts: Vec<(&'static str, Value)> = vec![];
    for (field, personal) in fact.personal() {
        let text = personal.text().filter(|_| own).map(str::to_owned);
        texts.push((field, text.into()));
        // Nothing but sealed fields is written; the text takes its place below.
        *personal = Personal::Sealed(String::new());
    }
    let mut payload: Value = serde_json::from_str(&fact.to_payload()?)?;
    if let Value::Object(fields) = &mut payload {
        fields.extend(
            texts
                .into_iter()
                .map(|(field, text)| (field.to_owned(), text)),
        );
        if !own {
            fields.remove("by");
        }
    }
    Ok(Some(OwnFact {
        position: recorded.position,
        r#type: fact.fact_type(),
        schema_version: fact.schema_version(),
        stream: recorded.stream,
        subject: recorded.subject,
        own,
        recorded_at: recorded.recorded_at,
        payload,
    }))
}

/// Whether the person may know of what somebody else did to them. Blocks, mutes, passes and likes are nobody's but theirs who did it; a
/// declined request goes on waiting as far as its sender sees.
fn is_told(recorded: &Recorded, person: UserId) -> bool {
    match &recorded.fact {
        Fact::AccountSuspended(_) | Fact::AccountRestored(_) => {
            recorded.subject == StreamKey::user(person).subject
        }
        Fact::FollowRequested(fact) => fact.followee == person || fact.follower == person,
        Fact::FollowStarted(fact) => fact.followee == person || fact.follower == person,
        Fact::FollowEnded(fact) => fact.followee == person || fact.follower == person,
        Fact::MatchMade(fact) => fact.users.contains(&person),
        Fact::MatchEnded(fact) => fact.users.contains(&person),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::envelope::Meta;
    use crate::fact::pair::{BlockStarted, FollowStarted};
    use crate::fact::post::Reason;
    use crate::fact::user::{AccountSuspended, ProfileUpdated};
    use crate::id::{EventId, Lane, TenantId};

    const ANA: UserId = UserId(Uuid::from_u128(1));
    const BO: UserId = UserId(Uuid::from_u128(2));

    /// What `actor` did, as `person` reads it.
    fn read(key: StreamKey, actor: UserId, fact: impl Into<Fact>, person: UserId) -> Option<Value> {
        let recorded = Recorded {
            position: Position(7),
            lane: Lane::new(0).unwrap(),
            tenant: TenantId(Uuid::nil()),
            stream: key.stream,
            version: 1,
            subject: key.subject,
            meta: Meta {
                actor,
                command: String::new(),
                correlation: None,
                cause: None,
            },
            event_id: EventId(Uuid::nil()),
            recorded_at: DateTime::UNIX_EPOCH,
            fact: fact.into(),
        };
        own_fact(recorded, person).unwrap().map(|own| own.payload)
    }

    #[test]
    fn texts_are_in_the_clear_for_who_wrote_them_and_null_where_they_are_unreadable() {
        let profile = ProfileUpdated {
            user: ANA,
            name: Some("Ana".into()),
            bio: Some(Personal::Erased),
            place: None,
            language: None,
            private: None,
        };
        let own = read(StreamKey::user(ANA), ANA, profile, ANA).unwrap();
        assert_eq!((&own["name"], &own["bio"]), (&"Ana".into(), &Value::Null));
        assert!(own.get("place").is_none(), "{own}");
    }

    #[test]
    fn of_others_one_is_told_what_one_may_know_and_not_who_moderates() {
        let follow = FollowStarted {
            follower: BO,
            followee: ANA,
        };
        let block = BlockStarted {
            blocker: BO,
            blocked: ANA,
        };
        let suspended = AccountSuspended {
            user: ANA,
            by: BO,
            until: None,
            reason: Reason::Spam,
        };
        assert!(read(StreamKey::follow(BO, ANA), BO, follow, ANA).is_some());
        assert!(read(StreamKey::block(BO, ANA), BO, block.clone(), ANA).is_none());
        assert!(read(StreamKey::block(BO, ANA), BO, block, BO).is_some());
        let told = read(StreamKey::user(ANA), BO, suspended, ANA).unwrap();
        assert_eq!((told.get("by"), &told["reason"]), (None, &"spam".into()));
    }
}
