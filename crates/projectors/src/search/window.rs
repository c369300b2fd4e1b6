//! How far back the newest matches of a query reach. An index knows which documents have a word and not which are the newest, so
//! each document also has the mark of its bucket of positions, which a query can ask for like a word: first those of the newest
//! buckets, and then of as many as it will take.

use events::id::Position;

/// A bucket has 2¹⁶ positions, as in the column `lexemes`.
const BUCKET: u32 = 16;

/// So many buckets are looked at first.
const FIRST: i64 = 2;

/// And no more at a time: each of them is read whole by the index, once it is shorter than the word's own list.
const MOST: i64 = 32;

/// Of what has fewer matches there, all that are left are looked at.
const FEW: i64 = 20;

/// After so many looks the next one is for all that is left.
const LOOKS: usize = 3;

/// Positions to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The first.
    pub(super) from: Position,
    /// Behind the last.
    pub(super) to: Position,
    /// The first and the last bucket, where they are worth asking for.
    pub(super) buckets: Option<(i64, i64)>,
}

impl Window {
    /// A query for what is in the window only.
    pub(super) fn of(&self, query: &str) -> String {
        let Some((first, last)) = self.buckets else {
            return query.to_owned();
        };
        let marks: Vec<String> = (first..=last)
            .map(|bucket| format!("'@{bucket}'"))
            .collect();
        format!("({query}) & ({})", marks.join(" | "))
    }
}

/// The windows from `to` back to `from`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    from: i64,
    to: i64,
    size: i64,
    looks: usize,
}

impl Windows {
    /// All positions from `from` on and below `to` and `head`.
    pub(super) fn new(from: Position, to: Position, head: Position) -> Self {
        Self {
            from: from.0,
            to: to.0.min(head.0.saturating_add(1)),
            size: FIRST,
            looks: 0,
        }
    }

    /// One window for all that is left; of a search for a short time, by its buckets.
    pub(super) fn rest(&mut self) -> Window {
        let (first, last) = (self.from >> BUCKET, (self.to - 1) >> BUCKET);
        let window = Window {
            from: Position(self.from),
            to: Position(self.to),
            buckets: (self.from > 0 && last - first < MOST).then_some((first, last)),
        };
        self.to = self.from;
        window
    }

    /// The next window, when the last one had `found` matches and `left` more are wanted; none: there is nothing left.
    pub(super) fn next(&mut self, found: i64, left: i64) -> Option<Window> {
        if self.to <= self.from || left <= 0 {
            return None;
        }
        if self.looks > 0 {
            if found < FEW || self.looks == LOOKS {
                return Some(self.rest());
            }
            // As many as there will be matches in if they go on so, and half as many again.
            self.size = (self.size * left * 3)
                .div_euclid(found * 2)
                .clamp(FIRST, MOST);
        }
        self.looks += 1;
        let last = (self.to - 1) >> BUCKET;
        let first = last - self.size + 1;
        let from = first << BUCKET;
        if from <= self.from {
            return Some(self.rest());
        }
        let window = Window {
            from: Position(from),
            to: Position(self.to),
            buckets: Some((first, last)),
        };
        self.to = from;
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is looked at for a query whose matches are `apart` positions apart.
    fn looked_at(head: i64, apart: i64) -> Vec<(i64, i64, bool)> {
        let mut windows = Windows::new(Position(0), Position(i64::MAX), Position(head));
        let (mut found, mut left, mut looked) = (0, 2_000, vec![]);
        while let Some(window) = windows.next(found, left) {
            found = (window.to.0 - window.from.0) / apart;
            left -= found;
            looked.push((window.from.0, window.to.0, window.buckets.is_some()));
        }
        looked
    }

    #[test]
    fn what_is_frequent_is_found_among_the_newest() {
        let looked = looked_at(10_000_000, 40);
        assert_eq!(looked, [(151 << 16, 10_000_001, true)]);
    }

    #[test]
    fn what_is_not_takes_a_second_look_that_suffices() {
        let looked = looked_at(10_000_000, 400);
        assert_eq!(looked.len(), 2, "{looked:?}");
        assert!(looked[1].0 > 0 && looked[1].2);
        assert_eq!(looked[0].0, looked[1].1);
    }

    #[test]
    fn what_is_rare_and_what_is_young_is_looked_for_everywhere() {
        assert_eq!(looked_at(10_000_000, 10_000)[1], (0, 151 << 16, false));
        assert_eq!(looked_at(90_000, 10), [(0, 90_001, false)]);
    }

    #[test]
    fn a_short_time_is_looked_at_by_its_buckets() {
        let from = Position(20 << BUCKET);
        let mut windows = Windows::new(from, Position(i64::MAX), Position((21 << BUCKET) + 5));
        let all = Window {
            from,
            to: Position((21 << BUCKET) + 6),
            buckets: Some((20, 21)),
        };
        assert_eq!(windows.next(0, 2_000), Some(all));
        assert_eq!(windows.next(5, 1_995), None);
    }

    #[test]
    fn every_position_is_in_one_window() {
        for (head, apart) in [
            (1 << 30, 5_000),
            (10_000_000, 900),
            (200_000, 101),
            (1, 1),
            (0, 1),
        ] {
            let looked = looked_at(head, apart);
            assert!(looked.len() <= LOOKS + 1, "{looked:?}");
            assert_eq!(looked[0].1, head + 1);
            assert!(
                looked.windows(2).all(|two| two[0].0 == two[1].1),
                "{looked:?}"
            );
        }
    }

    #[test]
    fn a_query_asks_for_its_buckets() {
        let mut window = Windows::new(Position(0), Position(i64::MAX), Position(300_000)).rest();
        assert_eq!(window.of("'gat'"), "'gat'");
        window.buckets = Some((3, 4));
        assert_eq!(window.of("'gat'"), "('gat') & ('@3' | '@4')");
    }
}
