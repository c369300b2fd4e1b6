//! Lanes, each in order, merged into the order of the whole log.

use std::collections::{BTreeMap, VecDeque};

use crate::envelope::Sealed;
use crate::id::{Lane, Position};

/// A lane with this many bytes of payloads waiting brings no more for now.
const FULL: usize = 256 << 10;

/// What waits for its turn. Since a lane is in order, the next fact of the log is in front of its lane or in a lane
/// where nothing waits: lanes that are full may be held up without holding up the rest.
#[derive(Debug)]
pub(super) struct Merge {
    next: Position,
    lanes: BTreeMap<Lane, Waiting>,
    fronts: BTreeMap<Position, Lane>,
}

#[derive(Debug, Default)]
struct Waiting {
    facts: VecDeque<Sealed>,
    bytes: usize,
    latest: Position,
    ended: bool,
}

impl Merge {
    /// Gives facts from `first` on, out of `lanes`.
    pub(super) fn new(first: Position, lanes: impl Iterator<Item = Lane>) -> Self {
        Self {
            next: first,
            lanes: lanes.map(|lane| (lane, Waiting::default())).collect(),
            fronts: BTreeMap::new(),
        }
    }

    /// The position that comes next.
    pub(super) fn next(&self) -> Position {
        self.next
    }

    /// Takes a lane's next fact in; earlier ones than asked for are dropped. False when its lane holds it, or one after
    /// it, already.
    pub(super) fn push(&mut self, fact: Sealed) -> bool {
        let waiting = self.lanes.entry(fact.lane).or_default();
        if fact.position <= waiting.latest {
            return false;
        }
        waiting.latest = fact.position;
        if fact.position >= self.next {
            if waiting.facts.is_empty() {
                self.fronts.insert(fact.position, fact.lane);
            }
            waiting.bytes += fact.payload.len();
            waiting.facts.push_back(fact);
        }
        true
    }

    /// The next fact of the log, if it is here.
    pub(super) fn pop(&mut self) -> Option<Sealed> {
        let lane = self.fronts.remove(&self.next)?;
        let waiting = self.lanes.get_mut(&lane)?;
        let fact = waiting.facts.pop_front()?;
        waiting.bytes -= fact.payload.len();
        if let Some(front) = waiting.facts.front() {
            self.fronts.insert(front.position, lane);
        }
        self.next = self.next.next();
        Some(fact)
    }

    /// Nothing more comes in `lane`.
    pub(super) fn end(&mut self, lane: Lane) {
        self.lanes.entry(lane).or_default().ended = true;
    }

    /// No lane can bring the next fact any more.
    pub(super) fn starved(&self) -> bool {
        let mut lanes = self.lanes.values();
        lanes.all(|waiting| waiting.ended || !waiting.facts.is_empty())
            && !self.fronts.contains_key(&self.next)
    }

    /// Whether enough of `lane` waits.
    pub(super) fn full(&self, lane: Lane) -> bool {
        self.lanes
            .get(&lane)
            .is_some_and(|waiting| waiting.bytes >= FULL)
    }

    /// Whether so little of `lane` waits that more may come.
    pub(super) fn low(&self, lane: Lane) -> bool {
        self.lanes
            .get(&lane)
            .is_none_or(|waiting| waiting.bytes < FULL / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::tests::sample;

    fn fact(lane: i32, position: i64) -> Sealed {
        Sealed {
            lane: Lane::new(lane).unwrap(),
            position: Position(position),
            ..sample()
        }
    }

    fn merge(first: i64) -> Merge {
        Merge::new(Position(first), (0..3).filter_map(Lane::new))
    }

    fn popped(merge: &mut Merge) -> Vec<i64> {
        std::iter::from_fn(|| merge.pop().map(|fact| fact.position.0)).collect()
    }

    #[test]
    fn lanes_come_out_in_the_order_of_the_log() {
        let mut merge = merge(1);
        for (lane, position) in [(0, 2), (0, 5), (2, 3)] {
            assert!(merge.push(fact(lane, position)));
        }
        assert_eq!(popped(&mut merge), [0; 0], "the first is still missing");
        merge.push(fact(1, 1));
        assert_eq!(popped(&mut merge), [1, 2, 3]);
        merge.push(fact(1, 4));
        assert_eq!(popped(&mut merge), [4, 5]);
    }

    #[test]
    fn what_was_not_asked_for_is_dropped_and_what_is_doubled_is_told() {
        let mut merge = merge(4);
        assert!(merge.push(fact(0, 3)));
        assert!(merge.push(fact(0, 4)));
        assert!(!merge.push(fact(0, 4)));
        assert!(!merge.push(fact(0, 2)));
        assert_eq!(popped(&mut merge), [4]);
    }

    #[test]
    fn a_position_that_no_lane_can_bring_is_noticed() {
        let mut merge = merge(1);
        merge.push(fact(0, 2));
        merge.end(Lane::new(1).unwrap());
        assert!(!merge.starved(), "lane 2 may bring it");
        merge.end(Lane::new(2).unwrap());
        assert!(merge.starved());
    }
}
