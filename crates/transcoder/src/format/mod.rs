//! What is made besides films: waveforms, sprites, captions and placeholders, and how they are read back. Nothing here knows
//! libav.

pub mod loudness;
pub mod peaks;
pub mod picture;
pub mod placeholder;
pub mod scale;
pub mod sprite;
pub mod vtt;
pub mod waveform;
