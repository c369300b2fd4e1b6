//! What a file really is, in the shape that the table keeps and answers show.

use events::fact::asset::{FrameRate, Loudness, MediaFacts};
use serde::{Deserialize, Serialize};

/// Measured properties of a media file; what it does not have is absent. The frame rate is for showing, so a float
/// does; who must have it exactly reads the fact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Container format, e.g. `mov,mp4`.
    pub container: String,
    /// Length, milliseconds.
    pub duration_ms: Option<u64>,
    /// Picture width as displayed, pixels.
    pub width: Option<u32>,
    /// Picture height as displayed, pixels.
    pub height: Option<u32>,
    /// Frames per second.
    pub frame_rate: Option<f64>,
    /// Codec of the chosen video track.
    pub video_codec: Option<String>,
    /// Codec of the chosen audio track.
    pub audio_codec: Option<String>,
    /// Sample rate of the chosen audio track, Hz.
    pub sample_rate: Option<u32>,
    /// Channels of the chosen audio track.
    pub channels: Option<u16>,
    /// Loudness of the chosen audio track by EBU R 128: LUFS, LU and dBTP. Silence has none.
    pub loudness: Option<Loudness>,
    /// What to show until the poster is there: its ThumbHash, Base64.
    pub thumbhash: Option<String>,
}

impl Measured {
    /// What is known when this is told after `before`: what one job does not measure, another did.
    #[must_use]
    pub fn after(self, before: Option<Self>) -> Self {
        let before = before.unwrap_or_default();
        Self {
            container: self.container,
            duration_ms: self.duration_ms.or(before.duration_ms),
            width: self.width.or(before.width),
            height: self.height.or(before.height),
            frame_rate: self.frame_rate.or(before.frame_rate),
            video_codec: self.video_codec.or(before.video_codec),
            audio_codec: self.audio_codec.or(before.audio_codec),
            sample_rate: self.sample_rate.or(before.sample_rate),
            channels: self.channels.or(before.channels),
            loudness: self.loudness.or(before.loudness),
            thumbhash: self.thumbhash.or(before.thumbhash),
        }
    }
}

impl From<MediaFacts> for Measured {
    fn from(facts: MediaFacts) -> Self {
        Self {
            container: facts.container,
            duration_ms: facts.duration_ms,
            width: facts.width,
            height: facts.height,
            frame_rate: facts.frame_rate.map(FrameRate::per_second),
            video_codec: facts.video_codec,
            audio_codec: facts.audio_codec,
            sample_rate: facts.sample_rate,
            channels: facts.channels,
            loudness: facts.loudness,
            thumbhash: facts.thumbhash,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_keeps_the_frame_rate_as_a_number() {
        let rate = FrameRate {
            num: 30_000,
            den: NonZeroU32::new(1001).unwrap(),
        };
        let facts = MediaFacts {
            frame_rate: Some(rate),
            ..MediaFacts::default()
        };
        let kept = serde_json::to_value(Measured::from(facts)).unwrap();
        assert_eq!(kept["frame_rate"], json!(30_000.0 / 1001.0));
        let none = serde_json::to_value(Measured::from(MediaFacts::default())).unwrap();
        assert_eq!(none["frame_rate"], json!(null));
    }
}
