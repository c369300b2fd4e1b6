//! Sprites: tiles for whoever looks for a place in a clip. `fast@1` makes them of keyframes alone, where these are dense
//! enough; else the proxy's pictures are there anyway. Both judge by the same packets, so one of them does.

use std::thread;

use super::{Desk, file, joined, spawned, write};
use crate::error::JobError;
use crate::format::sprite::{Density, Storyboard, Strip, interval_ns, place, tile_size};
use crate::limits::{DECODER_THREADS, Limits};
use crate::media::{Decoded, Packet, Pipeline, Source, Still, VideoDecoder, jpeg, sheet};
use crate::plan::{Target, VideoPlan, shrunk};
use crate::probe::{Facts, Picture};
use crate::profile::SPRITE_QUALITY;
use crate::wire::{Made, Warning};

/// Who makes the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    /// `fast@1`.
    Keyframes,
    /// `proxy720@1`.
    Proxy,
}

/// Tiles under way.
pub(super) struct Tiles {
    maker: Maker,
    stream: usize,
    origin_ns: i64,
    size: (u32, u32),
    strip: Strip<Still>,
    density: Density,
    /// Where the last packet ends, on the timeline.
    end_ns: i64,
    max_ns: i64,
}

impl Tiles {
    fn new(maker: Maker, plan: &VideoPlan, origin_ns: i64, limits: &Limits) -> Self {
        Self {
            maker,
            stream: plan.stream,
            origin_ns,
            size: tile_size(plan.width, plan.height),
            strip: Strip::default(),
            density: Density::default(),
            end_ns: 0,
            max_ns: i64::try_from(limits.max_seconds)
                .map_or(i64::MAX, |s| s.saturating_mul(1_000_000_000)),
        }
    }

    /// Takes note of a packet; returns its time if it is a keyframe for whose picture there is a place.
    pub(super) fn packet(&mut self, source: &Source, packet: &Packet) -> Option<i64> {
        if packet.stream() != self.stream || Source::discarded(packet) {
            return None;
        }
        if let Some(end) = source.end_ns(packet) {
            self.end_ns = self.end_ns.max(end.saturating_sub(self.origin_ns));
        }
        let at = source.time_ns(packet).filter(|_| packet.is_key())?;
        self.density.key(at.saturating_sub(self.origin_ns));
        self.wants(at).then_some(at)
    }

    /// Whether there is a place for a picture that is shown at this time of the container's clock.
    fn wants(&mut self, at: i64) -> bool {
        let ns = at.saturating_sub(self.origin_ns);
        ns <= self.max_ns && self.strip.wants(ns)
    }

    /// Whether pictures that are shown at these times have one place.
    fn share(&mut self, one: i64, other: i64) -> bool {
        let ns = [one, other].map(|at| at.saturating_sub(self.origin_ns));
        self.strip.share(ns[0], ns[1])
    }

    /// Keeps a tile, if there is a place for it.
    fn put(&mut self, still: Still, at: i64) {
        if self.wants(at) {
            self.strip.put(at.saturating_sub(self.origin_ns), still);
        }
    }

    /// Writes sheets, `sprite.json` and `sprite.vtt`, unless the other maker has to.
    pub(super) fn finish(self, made: &mut Made) -> Result<(), JobError> {
        let ms = |ns: i64| ns.max(0).unsigned_abs() / 1_000_000;
        let dense = self.density.suffices(self.end_ns, interval_ns(self.end_ns));
        if dense != (self.maker == Maker::Keyframes) {
            return Ok(());
        }
        let (interval_ns, tiles) = self.strip.finish(self.end_ns);
        let due = self.density.intervals(interval_ns);
        if self.maker == Maker::Keyframes && (tiles.len() as u64) < due {
            let message = format!("{due} sprites were due, {} keyframes decode", tiles.len());
            made.warnings.push(Warning::new("sprites_missing", message));
        }
        let starts: Vec<u64> = tiles.iter().map(|(start, _)| ms(*start)).collect();
        // The last tile stands for what comes after the pictures too, and lasts.
        let end = ms(self.end_ns).max(made.measured.audio_ms.unwrap_or(0));
        let end = end.max(starts.last().map_or(0, |start| start + 1));
        match Storyboard::lay_out(&starts, self.size, ms(interval_ns), end) {
            Some(board) => keep(&board, &tiles, made),
            None => Ok(()),
        }
    }
}

/// The plan of a tile. So small a picture needs no deinterlacing.
fn tile(plan: &VideoPlan, (width, height): (u32, u32)) -> VideoPlan {
    VideoPlan {
        width,
        height,
        deinterlace: false,
        ..plan.clone()
    }
}

fn keep(board: &Storyboard, tiles: &[(i64, Still)], made: &mut Made) -> Result<(), JobError> {
    let (width, height) = (board.tile_width as usize, board.tile_height as usize);
    let mut rest = tiles;
    for described in &board.sheets {
        let count = board
            .tiles
            .iter()
            .filter(|tile| tile.sheet == described.name)
            .count();
        let (these, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        let pictures: Vec<_> = these
            .iter()
            .enumerate()
            .map(|(at, (_, still))| (still, (place(at).0 * width, place(at).1 * height)))
            .collect();
        let picture = sheet((described.width, described.height), &pictures);
        write(&described.name, &jpeg(&picture, SPRITE_QUALITY)?)?;
        let mut sheet = file(&described.name);
        (sheet.width, sheet.height) = (Some(described.width), Some(described.height));
        made.files.push(sheet);
    }
    write("sprite.json", board.to_json().as_bytes())?;
    write("sprite.vtt", board.to_vtt().as_bytes())?;
    for name in ["sprite.json", "sprite.vtt"] {
        let mut text = file(name);
        text.duration_ms = Some(board.duration_ms);
        made.files.push(text);
    }
    Ok(())
}

/// Tiles of the proxy's pictures.
pub(super) struct Copies {
    pub(super) tiles: Tiles,
    pipeline: Pipeline,
}

impl Copies {
    pub(super) fn new(plan: &VideoPlan, origin_ns: i64, limits: &Limits) -> Self {
        let tiles = Tiles::new(Maker::Proxy, plan, origin_ns, limits);
        Self {
            pipeline: Pipeline::video(shrunk(tiles.size), limits),
            tiles,
        }
    }

    /// Keeps a picture, if there is a place for it.
    pub(super) fn copy(&mut self, still: &Still, at: i64) -> Result<(), JobError> {
        if !self.tiles.wants(at) {
            return Ok(());
        }
        let Self { tiles, pipeline } = self;
        let picture = Decoded {
            frame: still.clone(),
            start_ns: Some(at),
            duration_ns: 0,
        };
        pipeline.picture(picture, &mut |still, ns| {
            tiles.put(still, ns.unwrap_or(at));
            Ok(())
        })
    }
}

/// Keyframes of one place, with their times: what comes after the first is there in case that does not decode.
type Place = Vec<(Packet, i64)>;
/// Keyframes of a place at the most.
const SPARE: usize = 3;

/// What makes a tile of a keyframe, whatever came before it.
struct Hand {
    decoder: VideoDecoder,
    pipeline: Pipeline,
}

impl Hand {
    fn new(source: &Source, plan: &VideoPlan, limits: &Limits) -> Result<Self, JobError> {
        let filters = tile(plan, tile_size(plan.width, plan.height)).filters(Target::Jpeg);
        Ok(Self {
            decoder: VideoDecoder::video(source, plan.stream, 1, limits)?,
            pipeline: Pipeline::video(filters, limits),
        })
    }

    /// The first that decodes, as a tile, with its time.
    fn make(&mut self, place: &Place) -> Result<Option<(Still, i64)>, JobError> {
        let mut made = None;
        for (packet, at) in place {
            let Self { decoder, pipeline } = self;
            decoder.flush();
            for packet in [Some(packet), None] {
                decoder.feed(packet, &mut |mut decoded| {
                    // Where a container tells no more than an order, the packet's time is the picture's.
                    let start = decoded.start_ns.unwrap_or(*at);
                    decoded.start_ns = Some(start);
                    pipeline.picture(decoded, &mut |still, ns| {
                        made.get_or_insert((still, ns.unwrap_or(start)));
                        Ok(())
                    })
                })?;
            }
            if made.is_some() {
                break;
            }
        }
        Ok(made)
    }
}

/// How many work at once, so that no more is decoded at a time than two pictures of 4K: each takes memory for a few.
fn hands(facts: &Facts) -> usize {
    const AT_ONCE: u64 = 2 * 3840 * 2160;
    let pixels = facts.picture().map_or(1, Picture::pixels);
    usize::try_from(AT_ONCE / pixels.max(1))
        .map_or(DECODER_THREADS, |fit| fit.clamp(1, DECODER_THREADS))
}

/// Makes tiles of some places at once, and keeps them in order.
fn work(tiles: &mut Tiles, hands: &mut [Hand], places: &mut Vec<Place>) -> Result<(), JobError> {
    let made: Vec<_> = thread::scope(|threads| {
        let work = hands.iter_mut().zip(places.iter());
        let work: Vec<_> = work
            .map(|(hand, place)| spawned(threads, || hand.make(place)))
            .collect();
        let made = work.into_iter().map(|thread| thread.and_then(joined));
        made.collect()
    });
    places.clear();
    for tile in made {
        if let Some((still, at)) = tile? {
            tiles.put(still, at);
        }
    }
    Ok(())
}

/// Tiles of keyframes, and how many of these did not decode.
pub(super) fn collect(
    desk: &Desk<'_>,
    plan: &VideoPlan,
    made: &Made,
) -> Result<(Tiles, u64), JobError> {
    let limits = &desk.request.limits;
    let mut source = desk.open()?;
    // All of its packets, as the proxy reads them: demuxers that leave some out differ in what they call a keyframe.
    source.keep(&[plan.stream]);
    let hands = (0..hands(&made.facts)).map(|_| Hand::new(&source, plan, limits));
    let mut hands = hands.collect::<Result<Vec<_>, _>>()?;
    let mut tiles = Tiles::new(Maker::Keyframes, plan, made.plan.origin_ns, limits);
    let mut meter = desk.meter("sprite", made);
    let mut places: Vec<Place> = Vec::new();
    while let Some(packet) = source.next()? {
        meter.packet(&source, &packet);
        let Some(at) = tiles.packet(&source, &packet) else {
            continue;
        };
        match places.last_mut() {
            Some(place) if tiles.share(place[0].1, at) => {
                if place.len() < SPARE {
                    place.push((packet, at));
                }
            }
            _ => {
                if places.len() == hands.len() {
                    work(&mut tiles, &mut hands, &mut places)?;
                }
                places.push(vec![(packet, at)]);
            }
        }
    }
    work(&mut tiles, &mut hands, &mut places)?;
    let errors = hands.iter().map(|hand| hand.decoder.errors).sum();
    Ok((tiles, errors))
}

/// Makes sprites of keyframes, where these suffice.
pub(super) fn make((tiles, errors): (Tiles, u64), made: &mut Made) -> Result<(), JobError> {
    made.measured.video_ms = Some(tiles.end_ns.max(0).unsigned_abs() / 1_000_000);
    made.measured.decode_errors += errors;
    tiles.finish(made)
}
