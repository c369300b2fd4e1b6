//! Subtitles that are text: packets in, dialogue lines out.

use ffmpeg_next::codec::decoder::Opened;
use ffmpeg_next::{Dictionary, Rational};

use super::source::{Packet, Source};
use super::{decode, ffi, to_ns};
use crate::error::JobError;

/// The decoder of one track of subtitles.
pub(crate) struct CaptionDecoder {
    opened: Opened,
    base: Rational,
    /// Packets that did not decode.
    pub(crate) errors: u64,
}

/// Lines of Advanced SubStation Alpha that are shown together.
pub(crate) struct Dialogue {
    pub(crate) lines: Vec<String>,
    /// On the container's clock.
    pub(crate) start_ns: i64,
    /// On the container's clock; none: until something else is shown.
    pub(crate) end_ns: Option<i64>,
}

impl CaptionDecoder {
    pub(crate) fn open(source: &Source, stream: usize) -> Result<Self, JobError> {
        let (opened, base) = decode::open(source, stream, None, Dictionary::new())?;
        Ok(Self {
            opened,
            base,
            errors: 0,
        })
    }

    /// What a packet shows, if anything.
    pub(crate) fn decode(&mut self, packet: &Packet) -> Option<Dialogue> {
        let at_ns = to_ns(packet.pts().or(packet.dts())?, self.base)?;
        let Ok(shown) = ffi::decode_subtitle(&mut self.opened, packet) else {
            self.errors += 1;
            return None;
        };
        let after = |ms: u32| at_ns.saturating_add(i64::from(ms) * 1_000_000);
        let lasts = to_ns(packet.duration(), self.base).filter(|ns| *ns > 0);
        let told = Some(shown.end_ms).filter(|ms| *ms > shown.start_ms && *ms < u32::MAX);
        Some(Dialogue {
            lines: shown.lines,
            start_ns: after(shown.start_ms),
            end_ns: told.map(after).or(lasts.map(|ns| at_ns.saturating_add(ns))),
        })
    }
}
