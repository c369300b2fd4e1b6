//! The poster: the best of a few keyframes spread over the clip, by light and sharpness; and what stands for it until it is
//! there.

use super::{Desk, file, write};
use crate::error::JobError;
use crate::format::placeholder::thumbhash;
use crate::limits::Limits;
use crate::media::{Pipeline, Source, Still, VideoDecoder, jpeg, planes};
use crate::plan::{Target, VideoPlan};
use crate::profile::{POSTER_CANDIDATES, POSTER_QUALITY};
use crate::wire::Made;

/// Packets read for one keyframe before the place is given up.
const PATIENCE: u32 = 2000;

struct Candidate {
    still: Still,
    score: f64,
}

/// Makes `poster.jpg`.
pub(super) fn make(desk: &Desk<'_>, made: &mut Made) -> Result<(), JobError> {
    let Some(plan) = made.plan.video.clone() else {
        return Ok(());
    };
    let limits = &desk.request.limits;
    let mut search = Search::new(desk, &plan, limits)?;
    let duration_ms = made
        .facts
        .duration_ms
        .unwrap_or(0)
        .min(limits.max_seconds * 1000);
    let mut meter = desk.meter("poster", made);
    if !desk.request.still {
        for step in 0..POSTER_CANDIDATES {
            let share =
                duration_ms * (2 * u64::from(step) + 1) / (2 * u64::from(POSTER_CANDIDATES));
            let target = made
                .plan
                .origin_ns
                .saturating_add(i64::try_from(share * 1_000_000).unwrap_or(i64::MAX));
            search.near(target)?;
            meter.at(u64::from(step) + 1, u64::from(POSTER_CANDIDATES));
        }
    }
    let best = match search.best {
        Some(best) => best,
        // Not one keyframe where it should be: take the first picture that decodes at all.
        None => first_picture(desk, &plan, limits)?,
    };
    write("poster.jpg", &jpeg(&best.still, POSTER_QUALITY)?)?;
    made.measured.thumbhash = thumbhash(&planes(&best.still));
    let mut file = file("poster.jpg");
    (file.width, file.height) = (Some(plan.width), Some(plan.height));
    made.files.push(file);
    Ok(())
}

struct Search {
    source: Source,
    decoder: VideoDecoder,
    pipeline: Pipeline,
    stream: usize,
    seen: Vec<i64>,
    best: Option<Candidate>,
}

impl Search {
    fn new(desk: &Desk<'_>, plan: &VideoPlan, limits: &Limits) -> Result<Self, JobError> {
        let mut source = desk.open()?;
        source.keep_keyframes(plan.stream);
        let decoder = VideoDecoder::video(&source, plan.stream, 1, limits)?;
        let pipeline = Pipeline::video(plan.filters(Target::Jpeg), limits);
        Ok(Self {
            source,
            decoder,
            pipeline,
            stream: plan.stream,
            seen: Vec::new(),
            best: None,
        })
    }

    /// Considers the keyframe at or before a time; where the container cannot seek, the next one.
    fn near(&mut self, target_ns: i64) -> Result<(), JobError> {
        self.source.seek(target_ns);
        for _ in 0..PATIENCE {
            let Some(packet) = self.source.next()? else {
                return Ok(());
            };
            if packet.stream() != self.stream || !packet.is_key() {
                continue;
            }
            let at = self.source.time_ns(&packet).unwrap_or(i64::MIN);
            if self.seen.contains(&at) {
                return Ok(());
            }
            self.seen.push(at);
            let mut stills = Vec::new();
            self.decoder.flush();
            for packet in [Some(&packet), None] {
                self.decoder.feed(packet, &mut |decoded| {
                    self.pipeline.picture(decoded, &mut |still, _| {
                        stills.push(still);
                        Ok(())
                    })
                })?;
            }
            self.pipeline.end_pictures(&mut |still, _| {
                stills.push(still);
                Ok(())
            })?;
            for still in stills {
                better(&mut self.best, still);
            }
            return Ok(());
        }
        Ok(())
    }
}

fn better(best: &mut Option<Candidate>, still: Still) {
    let (width, height) = (still.width() as usize, still.height() as usize);
    let score = score(still.data(0), still.stride(0), width, height);
    if best.as_ref().is_none_or(|best| score > best.score) {
        *best = Some(Candidate { still, score });
    }
}

fn first_picture(
    desk: &Desk<'_>,
    plan: &VideoPlan,
    limits: &Limits,
) -> Result<Candidate, JobError> {
    let mut source = desk.open()?;
    source.keep(&[plan.stream]);
    let mut decoder = VideoDecoder::video(&source, plan.stream, 1, limits)?;
    let mut pipeline = Pipeline::video(plan.filters(Target::Jpeg), limits);
    let mut best = None;
    loop {
        let packet = source.next()?;
        let last = packet.is_none();
        if packet
            .as_ref()
            .is_none_or(|packet| packet.stream() == plan.stream)
        {
            let each = &mut |still, _| {
                better(&mut best, still);
                Ok(())
            };
            decoder.feed(packet.as_ref(), &mut |decoded| {
                pipeline.picture(decoded, each)
            })?;
            if last {
                pipeline.end_pictures(each)?;
            }
        }
        if best.is_some() || last {
            return best.ok_or_else(|| JobError::input("no picture in it decodes"));
        }
    }
}

/// Higher is better: sharp, and neither dark nor blown out.
#[expect(clippy::cast_precision_loss, reason = "a few million samples at most")]
fn score(luma: &[u8], stride: usize, width: usize, height: usize) -> f64 {
    let (mut sum, mut edges, mut count) = (0_u64, 0_u64, 0_u64);
    for row in luma.chunks(stride.max(1)).take(height).step_by(2) {
        for pair in row[..width.min(row.len())].windows(2) {
            sum += u64::from(pair[0]);
            edges += u64::from(pair[0].abs_diff(pair[1]));
            count += 1;
        }
    }
    let mean = sum as f64 / count.max(1) as f64;
    let light = 1.0 - ((mean - 118.0) / 137.0).abs().min(1.0);
    light.sqrt() * (1.0 + edges as f64 / count.max(1) as f64).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn detail_in_the_light_beats_flat_dark_and_white_pictures() {
        let checks: Vec<u8> = (0..64 * 64)
            .map(|at| if (at / 2) % 2 == 0 { 70 } else { 170 })
            .collect();
        let detailed = score(&checks, 64, 64, 64);
        for flat in [0, 118, 255] {
            assert!(detailed > score(&vec![flat; 64 * 64], 64, 64, 64));
        }
        let dark: Vec<u8> = checks.iter().map(|value| value / 16).collect();
        assert!(detailed > score(&dark, 64, 64, 64));
    }
}
