//! A track of sound on its way into a film: decoded, filtered, and made one unbroken row of samples.

use super::press::Queue;
use crate::error::JobError;
use crate::limits::Limits;
use crate::media::{AudioDecoder, Packet, Pipeline, Samples, Source};
use crate::timeline::Row;

/// The reading half of a track of sound.
pub(super) struct SoundTrack {
    pub(super) stream: usize,
    pub(super) decoder: AudioDecoder,
    pub(super) row: Row,
    /// Its place among the film's encoders of sound.
    place: usize,
    pipeline: Pipeline,
    origin_ns: i64,
    max_samples: u64,
}

impl SoundTrack {
    /// A track of a stream; its filters give samples at `rate`.
    pub(super) fn open(
        source: &Source,
        (stream, place): (usize, usize),
        pipeline: Pipeline,
        rate: u32,
        origin_ns: i64,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        Ok(Self {
            stream,
            decoder: AudioDecoder::audio(source, stream, limits)?,
            row: Row::new(rate),
            place,
            pipeline,
            origin_ns,
            // The second that has begun is whole.
            max_samples: limits
                .max_seconds
                .saturating_add(1)
                .saturating_mul(u64::from(rate))
                .saturating_sub(1),
        })
    }

    /// The same, with no more samples than these.
    pub(super) fn at_most(self, samples: u64) -> Self {
        Self {
            max_samples: self.max_samples.min(samples),
            ..self
        }
    }

    /// Takes a packet; none: what is held back.
    pub(super) fn feed(&mut self, packet: Option<&Packet>, queue: &Queue) -> Result<(), JobError> {
        let Self {
            decoder,
            row,
            place,
            pipeline,
            origin_ns,
            max_samples,
            ..
        } = self;
        let mut add = |samples: Samples| {
            let at = samples.start_ns.map(|ns| ns.saturating_sub(*origin_ns));
            let count = samples.channels.first().map_or(0, Vec::len) as u64;
            let placement = row.place(at, count);
            if row.len > *max_samples {
                return Err(JobError::limit(format!(
                    "more than {max_samples} samples of sound"
                )));
            }
            if placement.silence > 0 {
                queue.silence(*place, placement.silence)?;
            }
            queue.sound(*place, samples.channels, placement.skip)
        };
        decoder.feed(packet, &mut |decoded| pipeline.sound(decoded, &mut add))?;
        if packet.is_none() {
            pipeline.end_sound(&mut add)?;
        }
        Ok(())
    }
}
