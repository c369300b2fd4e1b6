//! What can happen. A new fact is one struct in its subject's file, one line in `facts!` below, and its generated
//! schema in `schemas/events/`. A change of a released one: `docs/event-evolution.md`.

pub mod asset;
pub mod pair;
pub mod post;
pub mod user;

use schemars::Schema;
use serde::{Deserialize, Deserializer};

use crate::seal::{Personal, PersonalField};
use crate::upcast::STEPS;

/// Why a stored payload is not the fact it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by newer code, or not by us: readers skip it and count it.
    #[error("no fact is called {fact_type} in version {version}")]
    Unknown {
        /// The type as stored.
        fact_type: String,
        /// The schema version as stored.
        version: i16,
    },
    /// The payload does not have the shape of its type.
    #[error("payload of {fact_type}: {reason}")]
    Malformed {
        /// The type as stored.
        fact_type: String,
        /// What serde found.
        reason: serde_json::Error,
    },
}

macro_rules! facts {
    ($($module:ident::$name:ident $type:literal v $version:literal [$($personal:ident),*];)*) => {
        /// Any fact, in its newest version.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Fact {$(
            #[doc = concat!("`", $type, "`: see [`", stringify!($module), "::", stringify!($name), "`].")]
            $name($module::$name),
        )*}

        $(impl From<$module::$name> for Fact {
            fn from(fact: $module::$name) -> Self {
                Self::$name(fact)
            }
        })*

        impl Fact {
            /// Every type with its newest version.
            pub const TYPES: &[(&str, i16)] = &[$(($type, $version)),*];

            /// Whether facts have a type of this name.
            pub fn is_type(name: &str) -> bool {
                Self::TYPES.iter().any(|(known, _)| *known == name)
            }

            /// The type's name, past tense.
            pub fn fact_type(&self) -> &'static str {
                match self { $(Self::$name(_) => $type,)* }
            }

            /// The version of its payload's schema.
            pub fn schema_version(&self) -> i16 {
                match self { $(Self::$name(_) => $version,)* }
            }

            /// The fact that a stored payload of the newest version says.
            pub fn from_payload<'de>(
                fact_type: &str,
                version: i16,
                payload: impl Deserializer<'de, Error = serde_json::Error>,
            ) -> Result<Self, DecodeError> {
                match (fact_type, version) {
                    $(($type, $version) => Deserialize::deserialize(payload).map(Self::$name),)*
                    _ => return Err(DecodeError::Unknown { fact_type: fact_type.to_owned(), version }),
                }
                .map_err(|reason| DecodeError::Malformed { fact_type: fact_type.to_owned(), reason })
            }

            /// The payload as stored. Fails on a personal field that is not sealed.
            pub fn to_payload(&self) -> Result<String, serde_json::Error> {
                match self { $(Self::$name(fact) => serde_json::to_string(fact),)* }
            }

            /// The personal fields that are there, by name.
            pub fn personal(&mut self) -> Vec<(&'static str, &mut Personal)> {
                match self { $(Self::$name(_fact) => {
                    let fields: Vec<Option<(&'static str, &mut Personal)>> =
                        vec![$(_fact.$personal.slot().map(|slot| (stringify!($personal), slot))),*];
                    fields.into_iter().flatten().collect()
                })* }
            }

            /// Whether there are any personal fields in it.
            pub fn has_personal(&self) -> bool {
                match self { $(Self::$name(_fact) => false $(|| _fact.$personal.is_there())*,)* }
            }

            /// The JSON Schema of every payload that may be in a log, by type and version: today's and all older ones.
            pub fn schemas() -> Vec<(&'static str, i16, Schema)> {
                let older = STEPS.iter().map(|step| (step.fact_type, step.from, (step.schema)()));
                let newest = [$(($type, $version, schemars::schema_for!($module::$name)),)*];
                older.chain(newest).collect()
            }
        }
    };
}

facts! {
    asset::UploadRequested "upload.requested" v 1 [file_name];
    asset::UploadCompleted "upload.completed" v 1 [];
    asset::UploadExpired "upload.expired" v 1 [];
    asset::UploadAborted "upload.aborted" v 1 [];
    asset::AssetProbed "asset.probed" v 2 [];
    asset::RenditionRequested "rendition.requested" v 1 [];
    asset::RenditionCompleted "rendition.completed" v 1 [];
    asset::RenditionFailed "rendition.failed" v 1 [];
    asset::RenditionCancelled "rendition.cancelled" v 1 [];
    asset::AssetReady "asset.ready" v 1 [];
    asset::AssetFailed "asset.failed" v 1 [];
    asset::AssetQuarantined "asset.quarantined" v 1 [];
    asset::AssetDeleted "asset.deleted" v 1 [];
    user::UserRegistered "user.registered" v 1 [account];
    user::ProfileUpdated "profile.updated" v 1 [name, bio, place];
    user::PreferenceSet "preference.set" v 1 [];
    user::AccountSuspended "account.suspended" v 1 [];
    user::AccountRestored "account.restored" v 1 [];
    user::UserErased "user.erased" v 1 [];
    post::PostPublished "post.published" v 1 [text, place, location];
    post::PostEdited "post.edited" v 1 [text, place];
    post::PostDeleted "post.deleted" v 1 [];
    post::PostShared "post.shared" v 1 [];
    post::ViewCounted "view.counted" v 1 [];
    post::CommentAdded "comment.added" v 1 [text];
    post::CommentEdited "comment.edited" v 1 [text];
    post::CommentDeleted "comment.deleted" v 1 [];
    post::ReactionAdded "reaction.added" v 1 [];
    post::ReactionRemoved "reaction.removed" v 1 [];
    post::ReportFiled "report.filed" v 1 [text];
    post::ContentHidden "content.hidden" v 1 [];
    post::ContentRestored "content.restored" v 1 [];
    pair::FollowRequested "follow.requested" v 1 [];
    pair::FollowStarted "follow.started" v 1 [];
    pair::FollowDeclined "follow.declined" v 1 [];
    pair::FollowEnded "follow.ended" v 1 [];
    pair::BlockStarted "block.started" v 1 [];
    pair::BlockEnded "block.ended" v 1 [];
    pair::MuteStarted "mute.started" v 1 [];
    pair::MuteEnded "mute.ended" v 1 [];
    pair::LikeGiven "like.given" v 1 [];
    pair::PassGiven "pass.given" v 1 [];
    pair::MatchMade "match.made" v 1 [];
    pair::MatchEnded "match.ended" v 1 [];
}
