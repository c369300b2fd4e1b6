//! One number for many facts: equal when the facts and their order are.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::envelope::Sealed;
use crate::id::{Lane, Position};

/// Positions in one stretch. A difference is looked for one by one in its stretch only.
pub(super) const STRETCH: i64 = 1 << 16;

/// A lane's facts in a stretch of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) lane: Lane,
    pub(super) stretch: i64,
}

impl Place {
    pub(super) fn of(lane: Lane, position: Position) -> Self {
        Self {
            lane,
            stretch: position.0 / STRETCH,
        }
    }

    /// The first and the last position that may lie here.
    pub(super) fn bounds(self) -> (Position, Position) {
        let first = self.stretch * STRETCH;
        (Position(first), Position(first + STRETCH - 1))
    }
}

/// Digests by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests(BTreeMap<Place, Sha256>);

impl Digests {
    /// Takes the next fact of its lane in.
    pub(super) fn add(&mut self, fact: &Sealed) {
        let place = Place::of(fact.lane, fact.position);
        self.0.entry(place).or_default().update(fact_digest(fact));
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Where the two do not hold the same.
    pub(super) fn differing(&self, other: &Self) -> BTreeSet<Place> {
        let places = self.0.keys().chain(other.0.keys()).copied();
        places
            .filter(|place| self.at(*place) != other.at(*place))
            .collect()
    }

    fn at(&self, place: Place) -> Option<[u8; 32]> {
        Some(self.0.get(&place)?.clone().finalize().into())
    }
}

/// Everything that a fact is, in 32 bytes. Each text is preceded by its length, so that none runs into the next.
pub(super) fn fact_digest(fact: &Sealed) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut text = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    text(&fact.stream);
    text(&fact.subject);
    text(&fact.fact_type);
    text(&fact.payload);
    text(&fact.meta.command);
    text(fact.meta.correlation.as_deref().unwrap_or_default());
    let cause = fact.meta.cause.unwrap_or_default();
    for id in [fact.tenant.0, fact.meta.actor.0, fact.event_id.0, cause] {
        hash.update(id.as_bytes());
    }
    for number in [
        fact.position.0,
        fact.version,
        fact.schema_version.into(),
        fact.recorded_at.timestamp_micros(),
    ] {
        hash.update(number.to_be_bytes());
    }
    hash.finalize().into()
}
