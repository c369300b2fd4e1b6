//! Sprites: small pictures of a clip at even distances, in sheets, for whoever looks for a place in it.
//!
//! The interval between two is a second, doubled until there are at most [`MOST_TILES`]: so it follows from where the
//! pictures end, and whoever sees them go by needs no header's word for how long they will last.

use serde::{Deserialize, Serialize};

use super::vtt::{self, Cue};

/// Tiles of a clip at the most.
pub const MOST_TILES: usize = SHEET_TILES * SHEETS.len();
/// Tiles side by side.
const COLUMNS: usize = 10;
/// Tiles in a sheet.
pub const SHEET_TILES: usize = COLUMNS * COLUMNS;
/// The names of the sheets.
pub const SHEETS: [&str; 10] = [
    "sprite-001.jpg",
    "sprite-002.jpg",
    "sprite-003.jpg",
    "sprite-004.jpg",
    "sprite-005.jpg",
    "sprite-006.jpg",
    "sprite-007.jpg",
    "sprite-008.jpg",
    "sprite-009.jpg",
    "sprite-010.jpg",
];
/// The longer side of a tile, pixels.
const SIDE: u32 = 160;
const SECOND_NS: i64 = 1_000_000_000;

/// The size of a tile of pictures of this size: even, and never larger than they are.
pub fn tile_size(width: u32, height: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    let side = |whole: u32| {
        let fit = u64::from(whole) * u64::from(SIDE.min(longest)) / u64::from(longest);
        (u32::try_from(fit).unwrap_or(SIDE) / 2 * 2).max(2)
    };
    (side(width), side(height))
}

/// The interval between tiles of a clip whose pictures end at `end_ns`.
pub fn interval_ns(end_ns: i64) -> i64 {
    let mut strip = Strip::<()>::default();
    strip.slot(end_ns.saturating_sub(1));
    strip.interval_ns
}

/// What is kept of a row of pictures: the first that begins in each interval.
#[derive(Debug)]
pub struct Strip<T> {
    interval_ns: i64,
    slots: Vec<Option<T>>,
}

impl<T> Default for Strip<T> {
    fn default() -> Self {
        Self {
            interval_ns: SECOND_NS,
            slots: Vec::new(),
        }
    }
}

impl<T> Strip<T> {
    /// Whether a picture that begins at `ns` on the timeline would be kept.
    pub fn wants(&mut self, ns: i64) -> bool {
        let slot = self.slot(ns);
        self.slots.get(slot).is_none_or(Option::is_none)
    }

    /// Whether pictures that begin at these times have one place.
    pub fn share(&mut self, one_ns: i64, other_ns: i64) -> bool {
        // The later one first: it may double the interval.
        self.slot(one_ns.max(other_ns)) == self.slot(one_ns.min(other_ns))
    }

    /// Keeps a picture that begins at `ns`, unless one that came before it is in its place.
    pub fn put(&mut self, ns: i64, picture: T) {
        let slot = self.slot(ns);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot].get_or_insert(picture);
    }

    /// What is kept when pictures end at `end_ns`, each with the start of its interval, the first at 0; and the interval.
    pub fn finish(mut self, end_ns: i64) -> (i64, Vec<(i64, T)>) {
        // The last moment that is shown decides, so that a clip of a thousand seconds has a thousand tiles.
        self.slot(end_ns.saturating_sub(1));
        let starts = (0..).map(|slot: i64| slot * self.interval_ns);
        let mut kept: Vec<(i64, T)> = starts
            .zip(self.slots)
            .filter_map(|(start, picture)| Some((start, picture?)))
            .collect();
        if let Some((start, _)) = kept.first_mut() {
            *start = 0;
        }
        (self.interval_ns, kept)
    }

    /// The place of a moment, made by doubling the interval where there are too few.
    fn slot(&mut self, ns: i64) -> usize {
        loop {
            let slot = usize::try_from(ns.max(0) / self.interval_ns).unwrap_or(usize::MAX);
            if slot < MOST_TILES {
                return slot;
            }
            self.interval_ns = self.interval_ns.saturating_mul(2);
            let mut old = std::mem::take(&mut self.slots).into_iter();
            while let Some(first) = old.next() {
                let second = old.next().flatten();
                self.slots.push(first.or(second));
            }
        }
    }
}

/// How far apart keyframes are: whether they alone make the tiles.
#[derive(Debug, Default)]
pub struct Density {
    last_ns: i64,
    widest_ns: i64,
    any: bool,
}

impl Density {
    /// A keyframe begins at `ns` on the timeline.
    pub fn key(&mut self, ns: i64) {
        self.any = true;
        self.widest_ns = self.widest_ns.max(ns.saturating_sub(self.last_ns));
        self.last_ns = self.last_ns.max(ns);
    }

    /// Intervals up to the last keyframe's: where keyframes suffice, each has one.
    pub fn intervals(&self, interval_ns: i64) -> u64 {
        (self.last_ns / interval_ns.max(1)).unsigned_abs() + 1
    }

    /// Whether no moment before `end_ns` is further than an interval behind a keyframe.
    pub fn suffices(&self, end_ns: i64, interval_ns: i64) -> bool {
        let behind = end_ns.saturating_sub(self.last_ns);
        self.any && self.widest_ns.max(behind) <= interval_ns
    }
}

/// What `sprite.json` says; `sprite.vtt` says the same to players.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storyboard {
    /// Of this format: 1.
    pub version: u32,
    /// Pixels.
    pub tile_width: u32,
    /// Pixels.
    pub tile_height: u32,
    /// Between two tiles. Where nothing new was shown for longer there is none.
    pub interval_ms: u64,
    /// Where the last tile ends.
    pub duration_ms: u64,
    /// The files.
    pub sheets: Vec<Sheet>,
    /// By time, without a gap.
    pub tiles: Vec<Tile>,
}

/// A file of tiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// Its name.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// A small picture and when it stands for the clip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// From here …
    pub start_ms: u64,
    /// … to here.
    pub end_ms: u64,
    /// The name of its sheet.
    pub sheet: String,
    /// Its left edge there, pixels.
    pub x: u32,
    /// Its upper edge there, pixels.
    pub y: u32,
}

impl Storyboard {
    /// Lays tiles of one size, which begin at these times, into sheets, line by line. None if there are none, or too many.
    pub fn lay_out(
        starts_ms: &[u64],
        (tile_width, tile_height): (u32, u32),
        interval_ms: u64,
        duration_ms: u64,
    ) -> Option<Self> {
        let in_range =
            (1..=MOST_TILES).contains(&starts_ms.len()) && tile_width.max(tile_height) <= SIDE;
        if !in_range {
            return None;
        }
        let narrow = |count: usize| u32::try_from(count).unwrap_or(0);
        let sheets = starts_ms.chunks(SHEET_TILES).zip(SHEETS);
        let sheets = sheets.map(|(tiles, name)| Sheet {
            name: name.to_owned(),
            width: tile_width * narrow(tiles.len().min(COLUMNS)),
            height: tile_height * narrow(tiles.len().div_ceil(COLUMNS)),
        });
        let ends = starts_ms.iter().skip(1).copied().chain([duration_ms]);
        let tiles = starts_ms.iter().zip(ends).enumerate();
        let tiles = tiles.map(|(at, (start_ms, end_ms))| {
            let (x, y) = place(at % SHEET_TILES);
            Tile {
                start_ms: *start_ms,
                end_ms,
                sheet: SHEETS[at / SHEET_TILES].to_owned(),
                x: tile_width * narrow(x),
                y: tile_height * narrow(y),
            }
        });
        Some(Self {
            version: 1,
            tile_width,
            tile_height,
            interval_ms,
            duration_ms,
            sheets: sheets.collect(),
            tiles: tiles.collect(),
        })
    }

    /// As JSON, a line.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what [`to_json`](Self::to_json) wrote, and nothing else: tiles lie where this layout has them, one after the
    /// other in time.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let said: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let starts: Vec<u64> = said.tiles.iter().map(|tile| tile.start_ms).collect();
        let size = (said.tile_width, said.tile_height);
        let laid = Self::lay_out(&starts, size, said.interval_ms, said.duration_ms);
        let in_order = said.tiles.iter().all(|tile| tile.start_ms < tile.end_ms);
        if in_order && laid.is_some_and(|laid| laid.to_json().as_bytes() == text) {
            Ok(said)
        } else {
            Err("it is no storyboard of this layout".to_owned())
        }
    }

    /// As WebVTT whose cues are places in sheets, the form that players take thumbnails in.
    pub fn to_vtt(&self) -> String {
        let (width, height) = (self.tile_width, self.tile_height);
        let cues: Vec<Cue> = self
            .tiles
            .iter()
            .map(
                |Tile {
                     start_ms,
                     end_ms,
                     sheet,
                     x,
                     y,
                 }| Cue {
                    start_ms: *start_ms,
                    end_ms: *end_ms,
                    text: format!("{sheet}#xywh={x},{y},{width},{height}"),
                },
            )
            .collect();
        vtt::write(&cues)
    }
}

/// Column and line of a tile of a sheet.
pub fn place(tile: usize) -> (usize, usize) {
    (tile % COLUMNS, tile / COLUMNS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strip(times: impl IntoIterator<Item = i64>) -> Strip<i64> {
        let mut strip = Strip::default();
        for ns in times {
            strip.put(ns, ns);
        }
        strip
    }

    #[test]
    fn a_clip_of_two_thousand_seconds_has_a_tile_every_two() {
        let seconds = (0..2000).map(|second| second * SECOND_NS);
        let (interval, tiles) = strip(seconds).finish(2000 * SECOND_NS);
        assert_eq!((interval, tiles.len()), (2 * SECOND_NS, 1000));
        assert_eq!(tiles[999], (1998 * SECOND_NS, 1998 * SECOND_NS));
    }

    #[test]
    fn what_comes_late_stands_for_the_start_too() {
        let (_, tiles) = strip([3 * SECOND_NS]).finish(5 * SECOND_NS);
        assert_eq!(tiles, [(0, 3 * SECOND_NS)]);
    }

    proptest! {
        /// However often the interval doubled on the way, the tiles are those of the last one.
        #[test]
        fn tiles_are_the_first_pictures_of_their_intervals(
            mut times in prop::collection::vec(0..5_000_000_000_000_i64, 1..400),
        ) {
            times.sort_unstable();
            let end = times[times.len() - 1] + 40_000_000;
            let (interval, tiles) = strip(times.iter().copied()).finish(end);
            let most = i64::try_from(MOST_TILES).unwrap();
            prop_assert!((end - 1) / interval < most);
            prop_assert!(interval == SECOND_NS || (end - 1) / (interval / 2) >= most);
            let mut wanted: Vec<(i64, i64)> = Vec::new();
            for ns in &times {
                let start = ns / interval * interval;
                if wanted.last().is_none_or(|(last, _)| *last < start) {
                    wanted.push((start, *ns));
                }
            }
            wanted[0].0 = 0;
            prop_assert_eq!(tiles, wanted);
        }

        /// Keyframes that suffice leave no interval between the first and the last one empty.
        #[test]
        fn where_keyframes_suffice_no_tile_is_missing(gaps in prop::collection::vec(1..1_500_000_000_i64, 1..300)) {
            let mut density = Density::default();
            let mut strip = Strip::default();
            let mut at = 0;
            for gap in gaps {
                density.key(at);
                strip.put(at, at);
                at += gap;
            }
            let (interval, tiles) = strip.finish(at);
            if density.suffices(at, interval) {
                for pair in tiles.windows(2) {
                    prop_assert_eq!(pair[1].0 - pair[0].0, interval);
                }
            }
        }

        #[test]
        fn a_storyboard_is_read_back(count in 1..MOST_TILES, width in 1..80_u32, height in 1..80_u32, last in 1..5000_u64) {
            let starts: Vec<u64> = (0..count as u64).map(|tile| tile * 1000).collect();
            let end = starts[count - 1] + last;
            let board = Storyboard::lay_out(&starts, (2 * width, 2 * height), 1000, end).unwrap();
            prop_assert_eq!(Storyboard::from_json(board.to_json().as_bytes()), Ok(board.clone()));
            prop_assert_eq!(board.to_vtt().matches("-->").count(), count);
            for tile in &board.tiles {
                let sheet = board.sheets.iter().find(|sheet| sheet.name == tile.sheet).unwrap();
                prop_assert!(tile.x + board.tile_width <= sheet.width && tile.y + board.tile_height <= sheet.height);
            }
        }
    }

    #[test]
    fn a_storyboard_with_a_tile_elsewhere_is_refused() {
        let mut board = Storyboard::lay_out(&[0, 1000], (160, 90), 1000, 1500).unwrap();
        board.tiles[1].x = 320;
        assert!(Storyboard::from_json(board.to_json().as_bytes()).is_err());
        let backwards = Storyboard::lay_out(&[1000, 0], (160, 90), 1000, 1500).unwrap();
        assert!(Storyboard::from_json(backwards.to_json().as_bytes()).is_err());
    }

    #[test]
    fn tiles_keep_the_shape_and_are_even() {
        assert_eq!(tile_size(1280, 720), (160, 90));
        assert_eq!(tile_size(720, 1280), (90, 160));
        assert_eq!(tile_size(4096, 2), (160, 2));
        assert_eq!(tile_size(64, 48), (64, 48));
    }

    #[test]
    fn players_get_cues_with_places() {
        let board = Storyboard::lay_out(&[0, 1000], (160, 90), 1000, 1500).unwrap();
        let cues = "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nsprite-001.jpg#xywh=0,0,160,90\n\n\
                    00:00:01.000 --> 00:00:01.500\nsprite-001.jpg#xywh=160,0,160,90\n";
        assert_eq!(board.to_vtt(), cues);
    }
}
