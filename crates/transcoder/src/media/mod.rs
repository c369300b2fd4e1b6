//! The only place that touches libav. Runs in the sandboxed child; nothing of libav leaves this folder.

mod aac;
mod caption;
mod clock;
mod decode;
mod encode;
mod ffi;
mod graph;
mod pcm;
mod sound;
mod source;
mod still;

pub(crate) use aac::AacEncoder;
pub(crate) use caption::{CaptionDecoder, Dialogue};
pub(crate) use decode::{AudioDecoder, Decoded, Trim, VideoDecoder};
pub(crate) use encode::{Coding, Movie, SoundEncoder, VideoEncoder, jpeg};
pub(crate) use graph::{Pipeline, Samples, Still};
pub(crate) use pcm::PcmEncoder;
pub(crate) use sound::{Rounding, Sound};
pub(crate) use source::{Packet, Source, formats};
pub(crate) use still::{planes, sheet};

use crate::error::{JobError, Kind};

/// Readies libav: it writes nothing to stderr, which belongs to us.
pub(crate) fn init() -> Result<(), JobError> {
    ffmpeg_next::init().map_err(|error| JobError::infra("start libav", error))?;
    ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
    Ok(())
}

/// What libav's error means for a job, when it came from the input.
fn fault(doing: &str, error: ffmpeg_next::Error) -> JobError {
    use ffmpeg_next::error::{EFBIG, ENOMEM, ENOSPC};
    match error {
        ffmpeg_next::Error::Other { errno: ENOMEM } => {
            JobError::new(Kind::Resource, format!("{doing}: out of memory"))
        }
        ffmpeg_next::Error::Other { errno: EFBIG } => {
            JobError::limit(format!("{doing}: the output is too large"))
        }
        ffmpeg_next::Error::Other { errno: ENOSPC } => JobError::infra(doing, "the disk is full"),
        error => JobError::input(format!("{doing}: {error}")),
    }
}

/// Nanoseconds of a timestamp.
fn to_ns(ts: i64, base: ffmpeg_next::Rational) -> Option<i64> {
    let (num, den) = (i128::from(base.numerator()), i128::from(base.denominator()));
    (den > 0)
        .then(|| i128::from(ts) * 1_000_000_000 * num / den)
        .and_then(|ns| i64::try_from(ns).ok())
}

/// The timestamp of nanoseconds, rounded down; zero where the clock does not run.
fn from_ns(ns: i64, base: ffmpeg_next::Rational) -> i64 {
    let unit = 1_000_000_000 * i128::from(base.numerator());
    let ts = (i128::from(ns) * i128::from(base.denominator())).checked_div_euclid(unit);
    ts.and_then(|ts| i64::try_from(ts).ok()).unwrap_or(0)
}
