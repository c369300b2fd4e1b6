//! One clock for a container whose own begins anew or jumps: MPEG streams that were cut and joined (ADR 18).
//!
//! A part's times are moved by one offset in all streams, so sound and picture keep their distance. A part is begun by the
//! stream that is first far from where it was; packets of the part before may still come in the others then.

/// A packet may be decoded so much before the one before it of its stream: less is a clock that begins anew.
const BACK_NS: i64 = 100_000_000;
/// What comes so much later than all that came before is no gap but a jump, as for `ffmpeg`.
const AHEAD_NS: i64 = 10_000_000_000;

/// What times are to be moved by. Times are nanoseconds on the container's clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The stream of the picture, of which nothing is to be lost.
    picture: Option<usize>,
    /// Of the part under way.
    offset: i64,
    /// Of the part before it.
    before: i64,
    /// The streams that had a packet.
    streams: Vec<Option<Stream>>,
    /// How often the clock began anew or jumped.
    pub(super) jumps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    /// When its last packet is decoded, and when that ends.
    last: i64,
    due: i64,
    /// Whether that was of the part under way.
    joined: bool,
}

impl Stream {
    /// When it goes on, not before a time: whole packets after its last one, so that a steady rate stays one.
    fn resumed(self, earliest: i64) -> i64 {
        let lasts = self.due.saturating_sub(self.last).max(1);
        let pause = earliest.saturating_sub(self.due).max(0);
        let whole = (pause / lasts).saturating_add(i64::from(pause % lasts > 0));
        self.due.saturating_add(whole.saturating_mul(lasts))
    }
}

impl Clock {
    /// A clock that runs.
    pub(super) fn new(picture: Option<usize>) -> Self {
        Self {
            picture,
            ..Self::default()
        }
    }

    /// By how much a packet is to be moved that is decoded at `at` and lasts so long.
    pub(super) fn place(&mut self, stream: usize, at: i64, lasts: i64) -> i64 {
        if self.streams.len() <= stream {
            self.streams.resize(stream + 1, None);
        }
        let (offset, joined) = match self.streams[stream] {
            None => (self.offset, true),
            Some(known) => self.follow(known, at),
        };
        let last = at.saturating_add(offset);
        self.streams[stream] = Some(Stream {
            last,
            due: last.saturating_add(lasts),
            joined,
        });
        offset
    }

    /// The offset of the part under way.
    pub(super) fn offset(&self) -> i64 {
        self.offset
    }

    /// The offset of the next packet of a stream, and whether it is of the part under way.
    fn follow(&mut self, known: Stream, at: i64) -> (i64, bool) {
        let late = |offset: i64| at.saturating_add(offset).saturating_sub(known.due);
        let back = |offset: i64| known.last.saturating_sub(at.saturating_add(offset)) > BACK_NS;
        let end = self.streams.iter().flatten().map(|stream| stream.due);
        let end = end.max().unwrap_or(known.due);
        let ahead = |offset: i64| at.saturating_add(offset).saturating_sub(end) > AHEAD_NS;
        if !known.joined {
            if late(self.before).saturating_abs() < late(self.offset).saturating_abs() {
                return (self.before, false);
            }
            if back(self.offset) {
                // This stream went on for longer than the one that began the part: all of the part is that much later.
                self.offset = known.due.saturating_sub(at);
            }
        }
        if back(self.offset) || ahead(self.offset) {
            self.begin(at, end, back(self.before) || ahead(self.before));
        }
        (self.offset, true)
    }

    /// Begins a part with a packet at `at`, behind the picture and all but the last of the sound; where it is of the part before, with
    /// that one's offset.
    fn begin(&mut self, at: i64, end: i64, anew: bool) {
        let offset = if anew {
            let picture = self.picture.and_then(|stream| *self.streams.get(stream)?);
            let start = picture.map_or(end, |picture| picture.resumed(end.saturating_sub(BACK_NS)));
            start.saturating_sub(at)
        } else {
            self.before
        };
        (self.offset, self.before) = (offset, self.offset);
        self.jumps += 1;
        for stream in self.streams.iter_mut().flatten() {
            stream.joined = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Where packets of 40 ms come to lie: each with its stream and its time in ms.
    fn placed(packets: &[(usize, i64)]) -> (Vec<i64>, u64) {
        let mut clock = Clock::new(Some(0));
        let place = |&(stream, at): &(usize, i64)| at + clock.place(stream, at * MS, 40 * MS) / MS;
        (packets.iter().map(place).collect(), clock.jumps)
    }

    #[track_caller]
    fn check(packets: &[(usize, i64)], expected: &[i64], jumps: u64) {
        assert_eq!(placed(packets), (expected.to_vec(), jumps));
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
        check(&packets, &packets.map(|(_, at)| at), 0);
        // Packets that claim to last longer than they do.
        let packets = [(0, 0), (0, 10), (0, 20), (0, 30)];
        check(&packets, &packets.map(|(_, at)| at), 0);
    }

    #[test]
    fn where_one_stream_pauses_the_clock_of_the_other_stands() {
        let mut packets = vec![(0, 0), (1, 0)];
        packets.extend((1..500).map(|n| (0, n * 40)));
        packets.extend([(1, 19_960), (0, 20_000), (1, 20_000)]);
        let times: Vec<_> = packets.iter().map(|(_, at)| *at).collect();
        check(&packets, &times, 0);
    }

    #[test]
    fn what_begins_anew_follows_what_was_before() {
        let packets = [
            (0, 1000),
            (1, 1000),
            (0, 1040),
            (1, 1040),
            (0, 0),
            (1, 10),
            (0, 40),
        ];
        check(&packets, &[1000, 1000, 1040, 1040, 1080, 1090, 1120], 1);
    }

    #[test]
    fn sound_and_picture_keep_their_distance_whichever_ended_first_and_comes_first() {
        // Sound may lose a little at its end, pictures nothing.
        for (long, short, start) in [(0, 1, 1000), (1, 0, 920)] {
            for first in [long, short] {
                let second = 1 - first;
                let mut packets: Vec<_> = (0..25).map(|n| (long, n * 40)).collect();
                packets.extend((0..13).map(|n| (short, n * 40)));
                packets.extend([(first, 0), (second, 0), (first, 40), (second, 40)]);
                let (places, jumps) = placed(&packets);
                assert_eq!(
                    places[38..],
                    [start, start, start + 40, start + 40],
                    "{long} {first}"
                );
                assert_eq!(jumps, 1);
            }
        }
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
        check(&packets, &[0, 0, 40, 40, 80, 40, 80], 1);
    }

    #[test]
    fn one_wrong_time_moves_nothing_after_it() {
        let packets = [
            (0, 0),
            (1, 0),
            (0, 95_000_000),
            (1, 40),
            (0, 80),
            (1, 80),
            (0, 120),
        ];
        check(&packets, &[0, 0, 40, 40, 80, 80, 120], 2);
    }

    #[test]
    fn a_stream_that_went_on_for_longer_than_was_known_moves_the_part() {
        // The picture begins the part while half a second of sound is still to come.
        let mut packets = vec![(0, 0), (1, 0), (0, 200), (1, 40), (0, 0)];
        packets.extend((2..14).map(|n| (1, n * 40)));
        packets.extend([(1, 0), (0, 40), (1, 40)]);
        let (places, jumps) = placed(&packets);
        assert_eq!(places[places.len() - 3..], [560, 600, 600]);
        assert_eq!(jumps, 1);
    }

    #[test]
    fn times_without_bounds_are_taken() {
        let mut clock = Clock::default();
        for at in [i64::MIN, i64::MAX, 0, i64::MIN, i64::MAX] {
            clock.place(3, at, i64::MAX);
            clock.place(0, at, 0);
        }
    }
}
