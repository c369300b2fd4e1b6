//! Where pictures and samples lie in time: pure arithmetic on nanoseconds.
//!
//! The timeline begins at or just before the earliest presented sample of the tracks we use. Where there is a picture,
//! its frame grid goes through the first picture, so that sound and picture keep their distance exactly: the start is
//! the last grid point not after the earliest sample, give or take 15 ms. Before a late picture its first frame is held; before late sound,
//! and in gaps, there is silence.

use serde::{Deserialize, Serialize};

const NS: i128 = 1_000_000_000;

/// Frames per second as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Frames …
    pub num: u32,
    /// … in so many seconds.
    pub den: u32,
}

/// The rates a proxy may have, slowest first.
pub const RATES: [Rate; 15] = [
    Rate { num: 5, den: 1 },
    Rate { num: 10, den: 1 },
    Rate { num: 12, den: 1 },
    Rate { num: 25, den: 2 },
    Rate { num: 15, den: 1 },
    Rate { num: 20, den: 1 },
    Rate {
        num: 24_000,
        den: 1001,
    },
    Rate { num: 24, den: 1 },
    Rate { num: 25, den: 1 },
    Rate {
        num: 30_000,
        den: 1001,
    },
    Rate { num: 30, den: 1 },
    Rate { num: 48, den: 1 },
    Rate { num: 50, den: 1 },
    Rate {
        num: 60_000,
        den: 1001,
    },
    Rate { num: 60, den: 1 },
];

impl Rate {
    /// The rate of a stream whose pictures are shown at these times, `tick_ns` being its clock's resolution.
    ///
    /// The mean of the intervals near the median, so that clocks that round (Matroska counts milliseconds) do not hide
    /// a standard rate; or the mean of all, where that is faster, so that no picture of a varying rate is lost. Within
    /// 0.5 % of a rate of [`RATES`] it is the nearest one, else the next one up.
    pub fn of(times_ns: &mut [i64], tick_ns: i64) -> Option<Self> {
        times_ns.sort_unstable();
        let mut intervals: Vec<i64> = times_ns
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .filter(|ns| *ns > 0)
            .collect();
        intervals.sort_unstable();
        let median = *intervals.get(intervals.len() / 2)?;
        let near = median / 50 + tick_ns;
        let usual = intervals.iter().filter(|ns| (**ns - median).abs() <= near);
        Some(Self::snap(
            per_second(usual).max(per_second(intervals.iter())),
        ))
    }

    /// Whether pictures at these times, in order, all begin on a grid of frames, `tick_ns` being their clock's resolution.
    pub fn is_steady(self, times_ns: &[i64], tick_ns: i64) -> bool {
        let frame = self.ns(1);
        let near = frame / 50 + tick_ns;
        let mut counted = 0;
        let on_grid = times_ns.windows(2).all(|pair| {
            let interval = pair[1].saturating_sub(pair[0]);
            let frames = self.frames(interval);
            counted += frames;
            let off = i128::from(interval) - i128::from(self.ns(clamp(frames)));
            frames > 0 && off.abs() <= i128::from(near)
        });
        // A rate near a standard one is another: after a while there is a picture more, or one less.
        let span = times_ns.last().zip(times_ns.first());
        let span = span.map_or(0, |(last, first)| last.saturating_sub(*first));
        on_grid && self.frames(span) == counted
    }

    /// The standard rate for so many frames per second.
    pub fn snap(per_second: f64) -> Self {
        let distance = |rate: &Self| (rate.per_second() / per_second - 1.0).abs();
        let nearest = RATES
            .into_iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest
            .filter(|rate| distance(rate) <= 0.005)
            .or_else(|| {
                RATES
                    .into_iter()
                    .find(|rate| rate.per_second() >= per_second)
            })
            .unwrap_or(RATES[RATES.len() - 1])
    }

    /// Frames per second as a number.
    pub fn per_second(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// Frames of a GOP that lasts a second.
    pub fn gop(self) -> u32 {
        (self.num + self.den / 2) / self.den
    }

    fn frames(self, ns: i64) -> i128 {
        round_div(
            i128::from(ns) * i128::from(self.num),
            NS * i128::from(self.den),
        )
    }

    /// Duration of so many frames.
    pub fn ns(self, frames: i64) -> i64 {
        clamp(round_div(
            i128::from(frames) * NS * i128::from(self.den),
            i128::from(self.num),
        ))
    }
}

/// Sound that starts so little before the picture is cut rather than given a frame: rounded clocks and priming do this.
const LEAD_NS: i64 = 15_000_000;

/// Where the timeline begins, given the start of the picture with its rate, and of the sound.
pub fn origin(video: Option<(i64, Rate)>, audio_ns: Option<i64>) -> i64 {
    match (video, audio_ns) {
        (Some((video, rate)), Some(audio)) if audio < video.saturating_sub(LEAD_NS) => {
            let held = (i128::from(video) - i128::from(audio)) * i128::from(rate.num);
            let unit = NS * i128::from(rate.den);
            video.saturating_sub(rate.ns(clamp((held + unit - 1) / unit)))
        }
        (Some((video, _)), _) => video,
        (None, audio) => audio.unwrap_or(0),
    }
}

/// Turns pictures at any times into a constant rate.
#[derive(Debug)]
pub struct Cadence {
    rate: Rate,
    next: i64,
    shown: bool,
}

impl Cadence {
    /// A cadence from the start of the timeline.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            next: 0,
            shown: false,
        }
    }

    /// A picture is shown at `ns`: how often the picture before it is to be repeated until then (0: it is dropped).
    ///
    /// The first picture is held from the start, so nothing comes before it.
    pub fn show(&mut self, ns: i64) -> u64 {
        if !self.shown {
            self.shown = true;
            return 0;
        }
        self.until(clamp(self.rate.frames(ns)))
    }

    /// The last picture ends at `ns`: how often it is to be repeated; at least once.
    pub fn end(&mut self, ns: i64) -> u64 {
        if !self.shown {
            return 0;
        }
        self.until(clamp(self.rate.frames(ns)).max(self.next + 1))
    }

    fn until(&mut self, slot: i64) -> u64 {
        let repeats = (slot - self.next).max(0);
        self.next += repeats;
        repeats.unsigned_abs()
    }
}

/// Turns blocks of samples at any times into one unbroken row of samples.
#[derive(Debug)]
pub struct Row {
    rate: u32,
    /// Samples placed so far.
    pub len: u64,
    started: bool,
    /// How late blocks have been, in fractions of a sample ([`FINE`]), smoothed over a second.
    lag: i128,
}

/// Fractions of a sample.
const FINE: i128 = 1024;

/// What to do with a block of samples.
#[derive(Debug, PartialEq, Eq)]
pub struct Placement {
    /// Samples of silence that come before it.
    pub silence: u64,
    /// Samples to leave out at its start.
    pub skip: u64,
}

impl Row {
    /// An empty row.
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            len: 0,
            started: false,
            lag: 0,
        }
    }

    /// A block of `samples` begins at `ns` on the timeline, or right after the last one.
    ///
    /// The first block is placed to the sample, and one that is more than 15 ms off (less than a frame of any codec) is put
    /// right by silence or a cut. Timestamps of many containers are rounded, and of live ones they jitter: less is put right
    /// only once it is 4 ms on the average of a second, as where the clocks of sound and picture run apart.
    pub fn place(&mut self, ns: Option<i64>, samples: u64) -> Placement {
        let rate = i128::from(self.rate);
        let next = i128::from(self.len);
        let at = ns.map_or(next, |ns| round_div(i128::from(ns) * rate, NS));
        let late = at - next;
        let wrong = if !self.started || late.abs() > rate * 15 / 1000 {
            self.lag = late.saturating_mul(FINE);
            late
        } else {
            let weight = i128::from(samples).min(rate);
            self.lag += (late * FINE - self.lag) * weight / rate.max(1);
            let lag = round_div(self.lag, FINE);
            if lag.abs() > rate * 4 / 1000 { lag } else { 0 }
        };
        let silence = u64::try_from(wrong.max(0)).unwrap_or(u64::MAX);
        let skip = u64::try_from((-wrong).max(0))
            .unwrap_or(u64::MAX)
            .min(samples);
        self.lag += (i128::from(skip) - i128::from(silence)) * FINE;
        self.started = self.started || skip < samples;
        self.len = self
            .len
            .saturating_add(silence)
            .saturating_add(samples - skip);
        Placement { silence, skip }
    }

    /// Duration of the row.
    pub fn ms(&self) -> u64 {
        self.len.saturating_mul(1000) / u64::from(self.rate.max(1))
    }
}

fn round_div(a: i128, b: i128) -> i128 {
    (2 * a + b).div_euclid(2 * b)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 {
        i64::MIN / 4
    } else {
        i64::MAX / 4
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a frame rate needs no more than 52 bits"
)]
fn per_second<'a>(intervals: impl Iterator<Item = &'a i64>) -> f64 {
    let (count, sum) = intervals.fold((0_u32, 0.0), |(count, sum), ns| {
        (count + 1, sum + *ns as f64)
    });
    f64::from(count) * 1e9 / sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const R25: Rate = Rate { num: 25, den: 1 };

    #[track_caller]
    fn check_rate(intervals_ms: &[i64], expected: (u32, u32)) {
        let mut times = vec![0];
        for at in 0..300 {
            times.push(times[at] + intervals_ms[at % intervals_ms.len()] * 1_000_000);
        }
        let (num, den) = expected;
        assert_eq!(Rate::of(&mut times, 1_000_000), Some(Rate { num, den }));
    }

    #[test]
    fn a_rate_is_steady_on_its_own_grid_only() {
        let times = |(num, den): (i64, i64), tick: i64| -> Vec<i64> {
            let at = |frame: i64| frame * 1_000_000_000 * den / num / tick * tick;
            (0..250).map(at).collect()
        };
        assert!(R25.is_steady(&times((25, 1), 1), 1));
        assert!(R25.is_steady(&times((25, 1), 1_000_000), 1_000_000));
        assert!(!R25.is_steady(&times((251, 10), 1), 1));
        let film = Rate::snap(24_000.0 / 1001.0);
        assert!(film.is_steady(&times((24_000, 1001), 1_000_000), 1_000_000));
        assert!(
            R25.is_steady(&[0, 40_000_000, 160_000_000], 1),
            "pictures are missing"
        );
        assert!(!R25.is_steady(&[0, 40_000_000, 60_000_000], 1));
    }

    #[test]
    fn rounded_clocks_do_not_hide_a_standard_rate() {
        check_rate(&[40], (25, 1));
        check_rate(&[33, 33, 34], (30, 1));
        check_rate(&[16, 17, 17], (60, 1));
        check_rate(&[42, 41, 42, 42], (24_000, 1001));
    }

    #[test]
    fn a_rate_that_varies_loses_no_picture_and_jitter_changes_nothing() {
        check_rate(&[100, 100, 100, 90, 80], (12, 1));
        check_rate(&[40, 36, 40, 44], (25, 1));
        check_rate(&[40, 40, 40, 400], (25, 1));
    }

    #[test]
    fn odd_rates_go_up_and_fast_ones_stop_at_sixty() {
        assert_eq!(Rate::snap(18.0), Rate { num: 20, den: 1 });
        assert_eq!(Rate::snap(60.02), Rate { num: 60, den: 1 });
        assert_eq!(Rate::snap(240.0), Rate { num: 60, den: 1 });
        assert_eq!(Rate::snap(1.0), Rate { num: 5, den: 1 });
    }

    #[test]
    fn the_grid_goes_through_the_first_picture() {
        assert_eq!(origin(Some((0, R25)), Some(500)), 0);
        assert_eq!(origin(Some((100_000_000, R25)), Some(0)), -20_000_000);
        assert_eq!(origin(Some((80_000_000, R25)), Some(0)), 0);
        assert_eq!(origin(Some((7_000_000, R25)), Some(0)), 7_000_000);
        assert_eq!(origin(None, Some(7)), 7);
    }

    #[test]
    fn clocks_that_lie_as_far_as_they_can_still_make_a_timeline() {
        assert!(origin(Some((i64::MAX, R25)), Some(i64::MIN)) < i64::MAX);
        let mut times = [i64::MIN, 0, i64::MAX];
        assert_eq!(Rate::of(&mut times, 1), Some(Rate { num: 5, den: 1 }));
    }

    #[test]
    fn a_late_picture_is_held_and_a_gap_repeats() {
        let mut cadence = Cadence::new(R25);
        assert_eq!(cadence.show(80_000_000), 0);
        assert_eq!(cadence.show(120_000_000), 3);
        assert_eq!(cadence.show(121_000_000), 0);
        assert_eq!(cadence.end(161_000_000), 1);
    }

    #[test]
    fn late_sound_is_silence_and_an_overlap_is_cut() {
        let mut row = Row::new(1000);
        assert_eq!(
            row.place(Some(5_000_000), 100),
            Placement {
                silence: 5,
                skip: 0
            }
        );
        assert_eq!(
            row.place(Some(107_000_000), 100),
            Placement {
                silence: 0,
                skip: 0
            }
        );
        assert_eq!(
            row.place(Some(155_000_000), 100),
            Placement {
                silence: 0,
                skip: 50
            }
        );
        assert_eq!(
            row.place(Some(300_000_000), 10),
            Placement {
                silence: 45,
                skip: 0
            }
        );
        assert_eq!(row.len, 310);
    }

    /// Places blocks as a coder cuts them, with the n-th at `ns(n)`, and tells how far off a block ever is, in ms.
    fn farthest(ns: impl Fn(i64) -> i64) -> (i64, u64) {
        let (mut row, mut most, mut put_right) = (Row::new(48_000), 0, 0);
        for block in 0..3000 {
            let at = ns(block);
            let placement = row.place(Some(at), 1024);
            put_right += placement.silence + placement.skip;
            let start = row.len.cast_signed() - 1024 + placement.skip.cast_signed();
            let kept = start * 1_000_000_000 / 48_000 - placement.skip.cast_signed() * 20_833;
            most = most.max((kept - at).abs() / 1_000_000);
        }
        (most, put_right)
    }

    const BLOCK_NS: i64 = 21_333_333;

    #[test]
    fn sound_whose_clock_runs_apart_is_kept_beside_the_picture() {
        for ppm in [-1000, -100, 100, 1000] {
            let (most, put_right) =
                farthest(|block| block * (BLOCK_NS + BLOCK_NS * ppm / 1_000_000));
            assert!(most <= 4, "{ppm} ppm: {most} ms");
            assert!(put_right > 0, "{ppm} ppm");
        }
    }

    #[test]
    fn clocks_that_jitter_or_round_put_nothing_right() {
        let jitter = |block: i64| block * BLOCK_NS + (block % 3 - 1) * 10_000_000;
        assert_eq!(farthest(|block| jitter(block).max(0)).1, 0);
        let rounded = |block: i64| block * BLOCK_NS / 1_000_000 * 1_000_000;
        assert_eq!(farthest(rounded).1, 0);
    }

    proptest! {
        #[test]
        fn frames_shown_equal_time_passed(steps in prop::collection::vec(1_i64..200_000_000, 1..100)) {
            let mut cadence = Cadence::new(R25);
            let (mut now, mut frames) = (0, cadence.show(0));
            for step in steps {
                now += step;
                frames += cadence.show(now);
            }
            frames += cadence.end(now + 40_000_000);
            let exact = R25.frames(now + 40_000_000);
            prop_assert!((i128::from(frames) - exact).abs() <= 1);
        }
    }
}
