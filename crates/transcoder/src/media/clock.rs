//! One clock for a container whose own begins anew or jumps: MPEG streams that were cut and joined.
//!
//! As `ffmpeg` does for containers whose clock may jump: a stream whose next packet comes far from where the one before it ended
//! moves all that follows, in every stream, so that it goes on there. Packets of the part before may still come then; of both
//! parts' offsets each packet has the one that fits it better.

/// A packet may come so much before the end of the one before it …
const BACK_NS: i64 = 100_000_000;
/// … or after it: more is no gap but a jump.
const AHEAD_NS: i64 = 10_000_000_000;

/// What times are to be moved by. Times are nanoseconds on the container's clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Of the part under way, and of the one before.
    offsets: [i64; 2],
    /// When each stream's next packet is due; none: it has had no packet.
    due: Vec<Option<i64>>,
    /// How often the clock began anew or jumped.
    pub(super) jumps: u64,
}

impl Clock {
    /// By how much a packet of sound or pictures is to be moved that is decoded at `at` and lasts so long.
    pub(super) fn offset(&mut self, stream: usize, at: i64, lasts: i64) -> i64 {
        if self.due.len() <= stream {
            self.due.resize(stream + 1, None);
        }
        let mut offset = self.offsets[0];
        if let Some(due) = self.due[stream] {
            let late = |offset: i64| at.saturating_add(offset).saturating_sub(due);
            if late(self.offsets[1]).saturating_abs() < late(offset).saturating_abs() {
                offset = self.offsets[1];
            }
            if !(-BACK_NS..=AHEAD_NS).contains(&late(offset)) {
                offset = due.saturating_sub(at);
                self.offsets = [offset, self.offsets[0]];
                self.jumps += 1;
            }
        }
        self.due[stream] = Some(at.saturating_add(offset).saturating_add(lasts));
        offset
    }

    /// The offset of the part under way.
    pub(super) fn now(&self) -> i64 {
        self.offsets[0]
    }

    /// After a seek nothing is due, and nothing is moved.
    pub(super) fn forget(&mut self) {
        (self.offsets, self.due) = ([0; 2], Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Where packets of 40 ms come to lie: each with its stream and its time in ms.
    fn placed(packets: &[(usize, i64)]) -> (Vec<i64>, u64) {
        let mut clock = Clock::default();
        let mut place =
            |&(stream, at): &(usize, i64)| at + clock.offset(stream, at * MS, 40 * MS) / MS;
        (packets.iter().map(&mut place).collect(), clock.jumps)
    }

    #[test]
    fn a_clock_that_goes_on_is_left_alone_with_its_gaps_and_its_overlaps() {
        let packets = [
            (0, 1000),
            (1, 900),
            (0, 1040),
            (0, 9000),
            (1, 880),
            (1, 10_000),
        ];
        let (places, jumps) = placed(&packets);
        assert_eq!(places, packets.map(|(_, at)| at));
        assert_eq!(jumps, 0);
    }

    #[test]
    fn what_begins_anew_follows_what_was_before() {
        let (places, jumps) = placed(&[
            (0, 1000),
            (1, 1000),
            (0, 1040),
            (1, 1040),
            (0, 0),
            (1, 10),
            (0, 40),
        ]);
        assert_eq!(places, [1000, 1000, 1040, 1040, 1080, 1090, 1120]);
        assert_eq!(jumps, 1);
    }

    #[test]
    fn what_jumps_ahead_follows_too_and_the_rest_of_the_part_before_stays() {
        let packets = [
            (0, 0),
            (1, 0),
            (0, 60_000),
            (1, 40),
            (0, 60_040),
            (1, 60_000),
            (1, 60_040),
        ];
        let (places, jumps) = placed(&packets);
        assert_eq!(places, [0, 0, 40, 40, 80, 80 - 40, 80]);
        assert_eq!(jumps, 1);
    }

    #[test]
    fn times_without_bounds_are_taken() {
        let mut clock = Clock::default();
        for at in [i64::MIN, i64::MAX, 0, i64::MIN, i64::MAX] {
            clock.offset(3, at, i64::MAX);
        }
    }
}
