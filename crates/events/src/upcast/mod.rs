//! Old payloads in today's shape. Every source decodes here and nowhere else.
//!
//! A stored fact is never rewritten. What was stored in an older version becomes the next version by one pure step,
//! and so on up to the newest, each time it is read. Steps see the payload as stored, so personal fields are ciphertext
//! there; a step must neither change nor rename one, because its ciphertext is bound to the field's name.

mod asset;

use schemars::Schema;
use serde_json::Value;

use crate::envelope::{Recorded, Sealed};
use crate::fact::{DecodeError, Fact};
use crate::seal::{self, Key, SealError};

/// One version of a type, and the way from it to the next. A step that has been released is never changed.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The type, e.g. `asset.probed`.
    pub fact_type: &'static str,
    /// The version that it reads; it writes the one after.
    pub from: i16,
    /// The schema of what it reads.
    pub schema: fn() -> Schema,
    /// The payload in the next version, or why there is none. Pure: no clock, no chance, no I/O.
    pub up: fn(Value) -> Result<Value, String>,
}

/// Every step there is.
pub const STEPS: &[Step] = &[Step {
    fact_type: "asset.probed",
    from: 1,
    schema: asset::probed_1,
    up: asset::probed_1_to_2,
}];

/// Why the steps do not lead from every older version to the newest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// An older version has no way up.
    #[error(
        "{fact_type} version {from} is in logs and nothing turns it into version {}: add a step to STEPS in \
         crates/events/src/upcast (docs/event-evolution.md)", from + 1
    )]
    Gap {
        /// The type.
        fact_type: String,
        /// The version without a step.
        from: i16,
    },
    /// An older version has two ways up.
    #[error(
        "two steps read {fact_type} version {from}: keep the released one in STEPS in crates/events/src/upcast"
    )]
    Double {
        /// The type.
        fact_type: String,
        /// The version with two steps.
        from: i16,
    },
    /// A step is for a type that is not there.
    #[error(
        "a step is for {0}, and no fact has that name: correct the name in STEPS or put the fact back into facts!"
    )]
    UnknownType(String),
    /// A step is for a version that is not an older one.
    #[error(
        "a step reads {fact_type} version {from}, whose newest version is {newest}: raise the version in facts! \
         (crates/events/src/fact/mod.rs) or take the step away"
    )]
    NotOlder {
        /// The type.
        fact_type: String,
        /// The version that the step reads.
        from: i16,
        /// The newest version.
        newest: i16,
    },
}

/// Why a stored fact cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its payload is not what its type says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its personal fields do not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No step leads on from its version.
    #[error(transparent)]
    Chain(#[from] BrokenChain),
    /// A newer program wrote it. Readers wait for their upgrade at it, and skip nothing.
    #[error(
        "{fact_type} version {version} was written by a newer program, this one knows up to {newest}: upgrade it, and it \
         goes on from here"
    )]
    Newer {
        /// The type.
        fact_type: String,
        /// The version stored.
        version: i16,
        /// The newest version known here.
        newest: i16,
    },
    /// A step did not take it.
    #[error(
        "{fact_type} version {from} does not become version {}: {reason}; is it what {fact_type}.v{from}.json says?",
        from + 1
    )]
    Step {
        /// The type.
        fact_type: String,
        /// The version that the step reads.
        from: i16,
        /// What it says.
        reason: String,
    },
}

/// Proves that exactly one step leads on from every older version of every type, and that there is no other step.
/// Asked whenever a log or a subscription opens, so that no fact waits to be the one that shows a gap.
pub fn check() -> Result<(), BrokenChain> {
    check_steps(Fact::TYPES, STEPS)
}

fn check_steps(types: &[(&str, i16)], steps: &[Step]) -> Result<(), BrokenChain> {
    for step in steps {
        let fact_type = || step.fact_type.to_owned();
        let Some((_, newest)) = types.iter().find(|(name, _)| *name == step.fact_type) else {
            return Err(BrokenChain::UnknownType(fact_type()));
        };
        if !(1..*newest).contains(&step.from) {
            return Err(BrokenChain::NotOlder {
                fact_type: fact_type(),
                from: step.from,
                newest: *newest,
            });
        }
    }
    for (name, newest) in types {
        for from in 1..*newest {
            let fact_type = (*name).to_owned();
            match steps.iter().filter(|step| step.reads(name, from)).count() {
                0 => return Err(BrokenChain::Gap { fact_type, from }),
                1 => {}
                _ => return Err(BrokenChain::Double { fact_type, from }),
            }
        }
    }
    Ok(())
}

impl Step {
    fn reads(&self, fact_type: &str, version: i16) -> bool {
        self.from == version && self.fact_type == fact_type
    }
}

/// The version and payload that `steps` lead to.
fn climb(
    steps: &[Step],
    fact_type: &str,
    mut version: i16,
    mut payload: Value,
) -> Result<(i16, Value), ReadError> {
    while let Some(step) = steps.iter().find(|step| step.reads(fact_type, version)) {
        payload = (step.up)(payload).map_err(|reason| ReadError::Step {
            fact_type: fact_type.to_owned(),
            from: version,
            reason,
        })?;
        version += 1;
    }
    Ok((version, payload))
}

/// The fact that a stored payload of any version says, personal fields still sealed.
pub fn decode(fact_type: &str, version: i16, payload: &str) -> Result<Fact, ReadError> {
    let malformed = |reason| DecodeError::Malformed {
        fact_type: fact_type.to_owned(),
        reason,
    };
    let newest = Fact::TYPES.iter().find(|(name, _)| *name == fact_type);
    if newest.is_some_and(|(_, newest)| *newest == version) {
        let mut text = serde_json::Deserializer::from_str(payload);
        let fact = Fact::from_payload(fact_type, version, &mut text)?;
        text.end().map_err(malformed)?;
        return Ok(fact);
    }
    let payload: Value = serde_json::from_str(payload).map_err(malformed)?;
    let (reached, payload) = climb(STEPS, fact_type, version, payload)?;
    // A type that we know in another version is not a stranger's: skipping it would lose facts without a word.
    match newest {
        Some((_, newest)) if reached > *newest => Err(ReadError::Newer {
            fact_type: fact_type.to_owned(),
            version,
            newest: *newest,
        }),
        Some((_, newest)) if reached < *newest => Err(BrokenChain::Gap {
            fact_type: fact_type.to_owned(),
            from: reached,
        }
        .into()),
        _ => Ok(Fact::from_payload(fact_type, reached, payload)?),
    }
}

/// Decodes, upcasts and opens a stored fact. `key` is the acting person's; none: erased.
pub fn read(stored: Sealed, key: Option<&Key>) -> Result<Recorded, ReadError> {
    let mut fact = typed(stored)?;
    seal::open(&mut fact.fact, fact.event_id, key)?;
    Ok(fact)
}

/// Decodes and upcasts a stored fact; personal fields stay sealed.
pub(crate) fn typed(stored: Sealed) -> Result<Recorded, ReadError> {
    let fact = decode(&stored.fact_type, stored.schema_version, &stored.payload)?;
    Ok(Recorded {
        position: stored.position,
        lane: stored.lane,
        tenant: stored.tenant,
        stream: stored.stream,
        version: stored.version,
        subject: stored.subject,
        meta: stored.meta,
        event_id: stored.event_id,
        recorded_at: stored.recorded_at,
        fact,
    })
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_of_tomorrow_is_not_taken_for_a_strangers_fact() {
        let newer = decode("asset.probed", 3, "{}");
        assert!(
            matches!(
                newer,
                Err(ReadError::Newer {
                    version: 3,
                    newest: 2,
                    ..
                })
            ),
            "{newer:?}"
        );
        let stranger = decode("tea.brewed", 1, "{}");
        assert!(
            matches!(
                stranger,
                Err(ReadError::Decode(DecodeError::Unknown { .. }))
            ),
            "{stranger:?}"
        );
    }

    const fn step(fact_type: &'static str, from: i16) -> Step {
        Step {
            fact_type,
            from,
            schema: || schema_for!(Value),
            up: |payload| Ok(json!([payload])),
        }
    }

    const TYPES: &[(&str, i16)] = &[("a.done", 3), ("b.done", 1)];

    #[test]
    fn the_steps_of_this_program_lead_from_every_version_to_the_newest() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn a_chain_without_gaps_is_accepted_in_any_order() {
        let steps = [step("a.done", 2), step("a.done", 1)];
        assert_eq!(check_steps(TYPES, &steps), Ok(()));
    }

    #[test]
    fn a_broken_chain_is_refused_with_what_is_wrong() {
        let (one, two) = (step("a.done", 1), step("a.done", 2));
        let fact_type = || "a.done".to_owned();
        let not_older = |fact_type: &str, from, newest| BrokenChain::NotOlder {
            fact_type: fact_type.to_owned(),
            from,
            newest,
        };
        let gap = |from| BrokenChain::Gap {
            fact_type: fact_type(),
            from,
        };
        let double = BrokenChain::Double {
            fact_type: fact_type(),
            from: 1,
        };
        for (steps, wrong) in [
            (vec![], gap(1)),
            (vec![one], gap(2)),
            (vec![two], gap(1)),
            (vec![one, two, one], double),
            (
                vec![one, two, step("a.gone", 1)],
                BrokenChain::UnknownType("a.gone".to_owned()),
            ),
            (vec![one, two, step("a.done", 3)], not_older("a.done", 3, 3)),
            (vec![one, two, step("a.done", 0)], not_older("a.done", 0, 3)),
            (vec![one, two, step("b.done", 1)], not_older("b.done", 1, 1)),
        ] {
            assert_eq!(check_steps(TYPES, &steps), Err(wrong));
        }
    }

    #[test]
    fn each_step_is_taken_once_and_the_newest_version_is_left_alone() {
        let steps = [step("a.done", 1), step("a.done", 2)];
        let climbed = |version| climb(&steps, "a.done", version, json!(7)).unwrap();
        assert_eq!(climbed(1), (3, json!([[7]])));
        assert_eq!(climbed(2), (3, json!([7])));
        assert_eq!(climbed(3), (3, json!(7)));
    }

    #[test]
    fn a_step_that_cannot_take_a_payload_says_which_and_why() {
        let payload = r#"{"media": {"frame_rate": "fast"}}"#;
        let told = decode("asset.probed", 1, payload).unwrap_err().to_string();
        assert!(
            told.contains("asset.probed version 1 does not become version 2")
                && told.contains("\"fast\""),
            "{told}"
        );
    }
}
