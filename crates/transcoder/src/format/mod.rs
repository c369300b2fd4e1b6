//! Formats of waveforms: files, pictures, and how samples become either. Nothing here knows libav.

pub mod peaks;
pub mod picture;
pub mod scale;
pub mod waveform;
