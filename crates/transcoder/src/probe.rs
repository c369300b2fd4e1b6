//! What is known of an input: what its container claims, and what decoding measured. Values only; `media` fills them.

use serde::{Deserialize, Serialize};

use crate::format::loudness::Loudness;
use crate::plan::Survey;

/// What the container claims, read by the sandboxed child.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// libav's name of the container.
    pub container: String,
    /// Size of the file.
    pub bytes: u64,
    /// The duration in the header: a claim, often absent, sometimes wrong.
    pub duration_ms: Option<u64>,
    /// Timecode of the start, as the file writes it.
    pub timecode: Option<String>,
    /// Every track, also those we do not use.
    pub tracks: Vec<Track>,
    /// The video track we use: an index into `tracks`.
    pub video: Option<usize>,
    /// The audio track we use: an index into `tracks`.
    pub audio: Option<usize>,
}

impl Facts {
    /// Claims of the picture that we use.
    pub fn picture(&self) -> Option<&Picture> {
        self.tracks.get(self.video?)?.picture.as_ref()
    }

    /// Whether there is a film's picture (`video`) or its sound (`audio`), decodable or not.
    pub fn has(&self, kind: &str) -> bool {
        (self.tracks.iter()).any(|track| track.kind == kind && !track.is("attached_pic"))
    }
}

/// An input as `probe` tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// What the container claims.
    pub claimed: Facts,
    /// What its first seconds are.
    pub measured: Survey,
}

/// One track of the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Index in the container.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data`, `attachment` or `unknown`.
    pub kind: String,
    /// libav's name of the codec.
    pub codec: String,
    /// Whether a decoder of ours takes it.
    pub decodable: bool,
    /// Language tag, as written in the file.
    pub language: Option<String>,
    /// `default`, `forced`, `attached_pic`, …
    pub disposition: Vec<String>,
    /// When the track starts, edit lists and priming applied, on the container's clock.
    pub start_ns: Option<i64>,
    /// Duration in the header.
    pub duration_ms: Option<u64>,
    /// Of a video track.
    pub picture: Option<Picture>,
    /// Of an audio track.
    pub sound: Option<Sound>,
}

impl Track {
    /// Whether the file marks the track so.
    pub fn is(&self, disposition: &str) -> bool {
        self.disposition.iter().any(|name| name == disposition)
    }

    /// Whether it is a film's picture or its sound, and no decoder of ours takes it.
    pub fn is_lost(&self) -> bool {
        let shown = ["video", "audio"].contains(&self.kind.as_str());
        shown && !self.decodable && !self.is("attached_pic")
    }
}

/// Claims of a video track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Coded width.
    pub width: u32,
    /// Coded height.
    pub height: u32,
    /// Width of a pixel over its height.
    pub pixel_aspect: (u32, u32),
    /// libav's name of the pixel format.
    pub format: String,
    /// The upper 2×2 part of the display matrix, by row; absent means upright.
    pub matrix: Option<[i32; 4]>,
    /// Whether fields are flagged.
    pub interlaced: bool,
    /// Colour, as tagged.
    pub colour: Colour,
    /// Average frames per second in the header.
    pub rate: Option<(u32, u32)>,
    /// Dolby Vision profile, if the track is one.
    pub dolby_vision: Option<u8>,
}

impl Picture {
    /// How many pixels it has.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Tags of colour by libav's names; `unknown` where untagged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Colour {
    /// YUV matrix, such as `bt709`.
    pub matrix: String,
    /// Primaries, such as `bt2020`.
    pub primaries: String,
    /// Transfer, such as `smpte2084`.
    pub transfer: String,
    /// `tv`, `pc` or `unknown`.
    pub range: String,
}

/// Claims of an audio track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sound {
    /// Samples per second.
    pub rate: u32,
    /// Channels.
    pub channels: u32,
    /// libav's name of the layout, such as `5.1`.
    pub layout: String,
}

/// What decoding found, whatever the header says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Pictures decoded.
    pub video_frames: Option<u64>,
    /// End of the last picture, from the start of the timeline.
    pub video_ms: Option<u64>,
    /// End of the last sample, from the start of the timeline.
    pub audio_ms: Option<u64>,
    /// Of the sound we use; none for silence too.
    pub loudness: Option<Loudness>,
    /// Of the poster: a ThumbHash in Base64.
    pub thumbhash: Option<String>,
    /// Packets or frames that did not decode.
    pub decode_errors: u64,
}

impl Measured {
    /// What this and another job measured of the same input.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            video_frames: self.video_frames.or(other.video_frames),
            video_ms: self.video_ms.or(other.video_ms),
            audio_ms: self.audio_ms.or(other.audio_ms),
            loudness: self.loudness.or(other.loudness),
            thumbhash: self.thumbhash.or(other.thumbhash),
            decode_errors: self.decode_errors.max(other.decode_errors),
        }
    }

    /// The later of the two ends.
    pub fn duration_ms(&self) -> u64 {
        self.video_ms.unwrap_or(0).max(self.audio_ms.unwrap_or(0))
    }
}

/// The upper 2×2 part of the display matrix of a picture that lies so by EXIF's tag `Orientation` (EXIF 2.32, 4.6.4 A); none for
/// what is no value of it.
pub fn upright(orientation: u8) -> Option<[i32; 4]> {
    const ONE: i32 = 1 << 16;
    Some(match orientation {
        1 => [ONE, 0, 0, ONE],
        2 => [-ONE, 0, 0, ONE],
        3 => [-ONE, 0, 0, -ONE],
        4 => [ONE, 0, 0, -ONE],
        5 => [0, ONE, ONE, 0],
        6 => [0, ONE, -ONE, 0],
        7 => [0, -ONE, -ONE, 0],
        8 => [0, -ONE, ONE, 0],
        _ => return None,
    })
}

/// Picks the tracks we use: of those that decode, the default one first, then the largest, then the first.
pub fn choose(tracks: &[Track]) -> (Option<usize>, Option<usize>) {
    let best = |size: &dyn Fn(&Track) -> Option<u64>| {
        tracks
            .iter()
            .enumerate()
            .filter(|(_, track)| track.decodable && !track.is("attached_pic"))
            .filter_map(|(at, track)| {
                Some((track.is("default"), size(track)?, std::cmp::Reverse(at)))
            })
            .max()
            .map(|(_, _, std::cmp::Reverse(at))| at)
    };
    let video = best(&|track| {
        track
            .picture
            .as_ref()
            .map(Picture::pixels)
            .filter(|p| *p > 0)
    });
    let audio = best(&|track| {
        track
            .sound
            .as_ref()
            .map(|s| u64::from(s.channels))
            .filter(|c| *c > 0)
    });
    (video, audio)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(width: u32, disposition: &str) -> Track {
        let picture = Picture {
            width,
            height: 100,
            ..Picture::default()
        };
        Track {
            decodable: true,
            disposition: vec![disposition.into()],
            picture: Some(picture),
            ..Track::default()
        }
    }

    fn audio(channels: u32) -> Track {
        let sound = Sound {
            rate: 48_000,
            channels,
            layout: String::new(),
        };
        Track {
            decodable: true,
            sound: Some(sound),
            ..Track::default()
        }
    }

    #[test]
    fn an_attached_picture_is_not_the_video() {
        assert_eq!(
            choose(&[audio(2), video(1400, "attached_pic")]),
            (None, Some(0))
        );
    }

    #[test]
    fn the_default_track_wins_over_a_larger_one() {
        assert_eq!(
            choose(&[
                video(1920, "dub"),
                video(640, "default"),
                audio(2),
                audio(6)
            ]),
            (Some(1), Some(3))
        );
    }

    #[test]
    fn of_equal_tracks_the_first_wins() {
        assert_eq!(choose(&[audio(2), audio(2)]), (None, Some(0)));
    }
}
