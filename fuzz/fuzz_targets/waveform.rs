//! Waveform files of strangers: refused, or read, and then all that can be done with them works.

#![no_main]

use fuzz::format::picture::{Colours, png};
use fuzz::format::waveform::Waveform;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(waveform) = Waveform::from_dat(bytes) {
        assert!(waveform.data.len() <= bytes.len());
        check(&waveform);
    }
    if let Some(waveform) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| Waveform::from_json(text).ok())
    {
        assert!(waveform.data.len() * 2 <= bytes.len());
        check(&waveform);
    }
});

fn check(waveform: &Waveform) {
    assert_eq!(
        Waveform::from_dat(&waveform.to_dat()).as_ref(),
        Ok(waveform)
    );
    assert_eq!(
        Waveform::from_json(&waveform.to_json()).as_ref(),
        Ok(waveform)
    );
    let same = waveform.clone().to_sixteen_bits().to_eight_bits();
    assert_eq!(same, waveform.clone().to_eight_bits());
    for factor in [0.0, 0.5, waveform.full_scale(), f64::MAX] {
        assert_eq!(
            waveform.clone().scaled(factor).data.len(),
            waveform.data.len()
        );
    }
    for times in [1, 2, 1000, u32::MAX] {
        let zoom = waveform.samples_per_pixel.saturating_mul(times);
        let coarse = waveform.coarser(zoom).expect("it is not finer");
        assert!(coarse.len() <= waveform.len());
    }
    let cut = waveform.clone().between(0.5, Some(1.0));
    assert!(cut.len() <= waveform.len());
    png(waveform, (40, 20), Colours::AUDACITY).expect("a small picture");
}
