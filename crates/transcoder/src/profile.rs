//! The profiles: a name, a version, and one table of values each. Change a value, raise the version.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::format::scale::Scale;
use crate::wire::{Drawing, Timeline};

/// What a job makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Profile {
    /// Waveform and poster, from the sound alone and from keyframes alone: seconds after an upload.
    #[serde(rename = "fast@1")]
    Fast1,
    /// An H.264 proxy of at most 720 lines.
    #[serde(rename = "proxy720@1")]
    Proxy720V1,
}

impl Profile {
    /// Every profile, in the order in which `run` makes them.
    pub const ALL: [Self; 2] = [Self::Fast1, Self::Proxy720V1];

    /// The public name with its version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast1 => "fast@1",
            Self::Proxy720V1 => "proxy720@1",
        }
    }

    /// Wall time after which the child is killed.
    pub fn deadline(self) -> Duration {
        match self {
            Self::Fast1 => Duration::from_mins(20),
            Self::Proxy720V1 => Duration::from_hours(6),
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
/// Keyframes considered for the poster.
pub const POSTER_CANDIDATES: u32 = 12;
/// The waveform.
pub const WAVEFORM: Drawing = Drawing {
    scale: Scale::Zoom(256),
    split_channels: false,
    timeline: Timeline::Proxy,
};
