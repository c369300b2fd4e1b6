//! File formats we write by hand: pure functions between bytes and values.

pub mod waveform;
