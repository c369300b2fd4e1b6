//! What the log is told of a job: pure.

use std::num::NonZeroU32;

use events::fact::asset::{
    FrameRate, Loudness, MediaError, MediaFacts, RenditionCompleted, RenditionFailed,
};
use storage::Key;

use crate::error::{JobError, Kind};
use crate::job::Job;
use crate::plan::Plan;
use crate::probe::{Facts, Measured};
use crate::profile::Profile;
use crate::run::Output;
use crate::timeline::Rate;
use crate::wire::Warning;

/// What a job's manifest is called, e.g. `manifest-fast-1.json`: names are an asset's, and each of its jobs has one.
pub(super) fn manifest_name(profile: Profile) -> String {
    // Links carry the name, so it keeps to letters that need no escape anywhere.
    format!("manifest-{}.json", profile.name().replace('@', "-"))
}

/// An error as the log spells it.
pub(super) fn media_error(error: &JobError) -> MediaError {
    let kind = match error.kind {
        Kind::Infra | Kind::Cancelled => "infrastructure",
        other => other.name(),
    };
    MediaError {
        kind: kind.to_owned(),
        message: error.message.clone(),
        retryable: error.retryable(),
    }
}

/// What the original really is, by what a job saw of it.
pub(super) fn media_facts(claimed: &Facts, measured: &Measured, plan: &Plan) -> MediaFacts {
    let video = claimed.video.and_then(|at| claimed.tracks.get(at));
    let audio = claimed.audio.and_then(|at| claimed.tracks.get(at));
    let sound = audio.and_then(|track| track.sound.as_ref());
    let shown = plan.video.as_ref();
    MediaFacts {
        container: claimed.container.clone(),
        duration_ms: Some(measured.duration_ms())
            .filter(|ms| *ms > 0)
            .or(claimed.duration_ms),
        width: shown.map(|picture| picture.width),
        height: shown.map(|picture| picture.height),
        frame_rate: shown.and_then(|picture| frame_rate(picture.rate)),
        video_codec: video.map(|track| track.codec.clone()),
        audio_codec: audio.map(|track| track.codec.clone()),
        sample_rate: sound.map(|sound| sound.rate),
        channels: sound.and_then(|sound| u16::try_from(sound.channels).ok()),
        loudness: measured.loudness.map(|loudness| Loudness {
            integrated_lufs: loudness.integrated_lufs,
            range_lu: loudness.range_lu,
            true_peak_dbtp: loudness.true_peak_dbtp,
        }),
        thumbhash: measured.thumbhash.clone(),
    }
}

fn frame_rate(rate: Rate) -> Option<FrameRate> {
    Some(FrameRate {
        num: rate.num,
        den: NonZeroU32::new(rate.den)?,
    })
}

/// An output that lies at `key`.
pub(super) fn completed(job: &Job, output: &Output, key: &Key) -> RenditionCompleted {
    RenditionCompleted {
        asset: job.asset,
        job: job.id,
        profile: job.profile.clone(),
        name: output.name.clone(),
        storage_key: key.as_str().to_owned(),
        media_type: output.media_type.to_owned(),
        bytes: output.bytes,
        sha256: output.sha256.clone(),
        width: output.width,
        height: output.height,
        duration_ms: output.duration_ms,
        cpu_ms: None,
    }
}

/// What the original should have given and did not. A proxy is all that its profile makes: without one the job fails.
pub(super) fn missing(
    job: &Job,
    profile: Profile,
    claimed: &Facts,
    outputs: &[Output],
    warnings: &[Warning],
) -> Vec<RenditionFailed> {
    let expected: &[(&str, &str, &str)] = match profile {
        Profile::Fast1 => &[
            ("audio", "waveform", "waveform.dat"),
            ("video", "poster", "poster.jpg"),
        ],
        Profile::Proxy720V1 | Profile::Edit1 => &[],
    };
    expected
        .iter()
        .filter(|(kind, _, name)| {
            claimed.has(kind) && outputs.iter().all(|made| made.name != *name)
        })
        .map(|(kind, stage, name)| {
            let why = warnings.iter().find_map(|warning| {
                let named = warning.message.strip_prefix(&format!("no {stage}: "));
                named.filter(|_| warning.code == "missing")
            });
            let lost = claimed
                .tracks
                .iter()
                .any(|track| track.kind == *kind && track.is_lost());
            let why = why.or(lost.then_some("no decoder of ours takes it"));
            RenditionFailed {
                asset: job.asset,
                job: job.id,
                profile: job.profile.clone(),
                name: Some((*name).to_owned()),
                error: media_error(&JobError::input(why.unwrap_or("it could not be made"))),
                cpu_ms: None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use events::id::{AssetId, JobId, TenantId};
    use uuid::Uuid;

    use super::*;
    use crate::probe::Track;
    use crate::run::CpuTime;

    fn job() -> Job {
        Job {
            id: JobId(Uuid::nil()),
            tenant: TenantId(Uuid::nil()),
            asset: AssetId(Uuid::nil()),
            profile: "fast@1".to_owned(),
            source_key: String::new(),
            source_bytes: 0,
            source_sha256: String::new(),
            attempts: 1,
            cpu_ms: 0,
            token: Uuid::nil(),
            spent: CpuTime::default(),
        }
    }

    fn sound_only(decodable: bool) -> Facts {
        let track = Track {
            kind: "audio".to_owned(),
            decodable,
            ..Track::default()
        };
        Facts {
            tracks: vec![track],
            ..Facts::default()
        }
    }

    #[test]
    fn what_could_be_there_and_is_not_is_told_with_its_reason() {
        let warnings = [Warning::new("missing", "no waveform: the sound is broken")];
        let missing = missing(&job(), Profile::Fast1, &sound_only(true), &[], &warnings);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].name.as_deref(), Some("waveform.dat"));
        assert_eq!(missing[0].error.message, "the sound is broken");
        assert_eq!(missing[0].error.kind, "input");
    }

    #[test]
    fn sound_that_no_decoder_takes_is_told_too() {
        let missing = missing(&job(), Profile::Fast1, &sound_only(false), &[], &[]);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].error.message, "no decoder of ours takes it");
    }

    #[test]
    fn the_surroundings_fault_has_its_public_name() {
        let error = media_error(&JobError::infra("read a disk", "gone"));
        assert_eq!(
            (error.kind.as_str(), error.retryable),
            ("infrastructure", true)
        );
    }
}
