//! Sprites: tiles for whoever looks for a place in a clip. `fast@1` makes them of keyframes alone, where these are dense
//! enough; else the proxy's pictures are there anyway. Both judge by the same packets, so one of them does.

use super::{Desk, file, write};
use crate::error::JobError;
use crate::format::sprite::{Density, Storyboard, Strip, interval_ns, place, tile_size};
use crate::limits::Limits;
use crate::media::{Decoded, Packet, Pipeline, Source, Still, VideoDecoder, jpeg, sheet};
use crate::plan::{Target, VideoPlan, shrunk};
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
    pipeline: Pipeline,
    strip: Strip<Still>,
    density: Density,
    /// Where the last packet ends, on the timeline.
    end_ns: i64,
    max_ns: i64,
}

impl Tiles {
    /// Tiles of the plan's pictures: as decoded, or as the proxy shows them.
    pub(super) fn new(maker: Maker, plan: &VideoPlan, origin_ns: i64, limits: &Limits) -> Self {
        let size = tile_size(plan.width, plan.height);
        let filters = match maker {
            Maker::Keyframes => tile(plan, size).filters(Target::Jpeg),
            Maker::Proxy => shrunk(size),
        };
        Self {
            maker,
            stream: plan.stream,
            origin_ns,
            size,
            pipeline: Pipeline::video(filters, limits),
            strip: Strip::default(),
            density: Density::default(),
            end_ns: 0,
            max_ns: i64::try_from(limits.max_seconds)
                .map_or(i64::MAX, |s| s.saturating_mul(1_000_000_000)),
        }
    }

    /// Takes note of a packet. Whether it is a keyframe for whose picture there is a place.
    pub(super) fn packet(&mut self, source: &Source, packet: &Packet) -> bool {
        if packet.stream() != self.stream || Source::discarded(packet) {
            return false;
        }
        if let Some(end) = source.end_ns(packet) {
            self.end_ns = self.end_ns.max(end.saturating_sub(self.origin_ns));
        }
        let Some(at) = source.time_ns(packet).filter(|_| packet.is_key()) else {
            return false;
        };
        let ns = at.saturating_sub(self.origin_ns);
        self.density.key(ns);
        self.wants(Some(at))
    }

    /// Whether there is a place for a picture that is shown at this time of the container's clock.
    fn wants(&mut self, at: Option<i64>) -> bool {
        let ns = at.map_or(0, |at| at.saturating_sub(self.origin_ns));
        ns <= self.max_ns && self.strip.wants(ns)
    }

    /// Keeps a picture, if there is a place for it.
    pub(super) fn show(&mut self, picture: Decoded<Still>) -> Result<(), JobError> {
        if !self.wants(picture.start_ns) {
            return Ok(());
        }
        let Self {
            pipeline,
            strip,
            origin_ns,
            ..
        } = self;
        pipeline.picture(picture, &mut |still, ns| {
            strip.put(ns.map_or(0, |ns| ns.saturating_sub(*origin_ns)), still);
            Ok(())
        })
    }

    /// Keeps a picture of the proxy, if there is a place for it.
    pub(super) fn copy(&mut self, still: &Still, start_ns: Option<i64>) -> Result<(), JobError> {
        if !self.wants(start_ns) {
            return Ok(());
        }
        self.show(Decoded {
            frame: still.clone(),
            start_ns,
            duration_ns: 0,
        })
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
    let mut decoder = VideoDecoder::video(&source, plan.stream, 1, limits)?;
    let mut tiles = Tiles::new(Maker::Keyframes, plan, made.plan.origin_ns, limits);
    let mut meter = desk.meter("sprite", made);
    while let Some(packet) = source.next()? {
        if tiles.packet(&source, &packet) {
            decoder.flush();
            // Where a container tells no more than an order, the packet's time is the picture's.
            let at = source.time_ns(&packet);
            for packet in [Some(&packet), None] {
                decoder.feed(packet, &mut |mut decoded| {
                    decoded.start_ns = decoded.start_ns.or(at);
                    tiles.show(decoded)
                })?;
            }
        }
        meter.packet(&source, &packet);
    }
    Ok((tiles, decoder.errors))
}

/// Makes sprites of keyframes, where these suffice.
pub(super) fn make((tiles, errors): (Tiles, u64), made: &mut Made) -> Result<(), JobError> {
    made.measured.video_ms = Some(tiles.end_ns.max(0).unsigned_abs() / 1_000_000);
    made.measured.decode_errors += errors;
    tiles.finish(made)
}
