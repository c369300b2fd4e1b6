//! The profiles: a name, a version, and one table of values each. Change a value, raise the version.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::format::scale::Scale;
use crate::wire::{Drawing, Timeline};

/// What a job makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Profile {
    /// Waveform, loudness, poster and placeholder, and sprites where keyframes are dense enough; from the sound alone and from
    /// keyframes alone: seconds after an upload.
    #[serde(rename = "fast@1")]
    Fast1,
    /// An H.264 proxy of at most 720 lines, captions, and sprites where `fast@1` cannot make them.
    #[serde(rename = "proxy720@1")]
    Proxy720V1,
    /// A QuickTime film for editing programs: DNxHR, every track of sound, the source's frames and timecode.
    #[serde(rename = "edit@1")]
    Edit1,
}

impl Profile {
    /// Every profile, in the order in which `run` makes them.
    pub const ALL: [Self; 3] = [Self::Fast1, Self::Proxy720V1, Self::Edit1];
    /// Those that are made without being asked for.
    pub const USUAL: [Self; 2] = [Self::Fast1, Self::Proxy720V1];

    /// The public name with its version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast1 => "fast@1",
            Self::Proxy720V1 => "proxy720@1",
            Self::Edit1 => "edit@1",
        }
    }

    /// Wall time after which a job is ended, whatever its plan.
    pub fn deadline(self) -> Duration {
        match self {
            Self::Fast1 => Duration::from_mins(20),
            Self::Proxy720V1 | Self::Edit1 => Duration::from_hours(6),
        }
    }

    /// Seconds that a slow and busy machine takes for a second of 1080p at 30 frames.
    pub fn pace(self) -> f64 {
        match self {
            Self::Fast1 => 1.0,
            Self::Proxy720V1 | Self::Edit1 => 8.0,
        }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|profile| profile.name()).collect();
                format!("no such profile; there are {}", known.join(", "))
            })
    }
}

/// The short side of proxy and poster.
pub const SHORT_SIDE: u32 = 720;
/// The long side of proxy and poster, for panoramas.
pub const LONG_SIDE: u32 = 4096;
/// Rate of the proxy's sound.
pub const AUDIO_RATE: u32 = 48_000;
/// Bits per second of the proxy's sound.
pub const AUDIO_BIT_RATE: usize = 128_000;
/// Options of libx264. Threads are pinned because another count makes other bytes.
pub const X264: [(&str, &str); 8] = [
    ("preset", "veryfast"),
    ("profile", "high"),
    ("crf", "23"),
    ("maxrate", "4000000"),
    ("bufsize", "8000000"),
    ("sc_threshold", "0"),
    ("flags", "+cgop"),
    ("threads", "4"),
];
/// Quality of the poster: libav's scale of JPEG, from 2 (best) to 31.
pub const POSTER_QUALITY: i32 = 3;
/// Quality of sprites, on the same scale.
pub const SPRITE_QUALITY: i32 = 5;
/// Keyframes considered for the poster.
pub const POSTER_CANDIDATES: u32 = 12;
/// The waveform.
pub const WAVEFORM: Drawing = Drawing {
    scale: Scale::Zoom(256),
    split_channels: false,
    timeline: Timeline::Proxy,
};
