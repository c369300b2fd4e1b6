//! Facts of an upload, the asset it becomes, and the renditions made from it. Stream and subject: `asset-<id>`.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AssetId, JobId, UserId};
use crate::seal::Personal;

/// Someone may now put bytes into storage by a signed URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadRequested {
    /// The asset to be.
    pub asset: AssetId,
    /// Who uploads; owns the asset.
    pub owner: UserId,
    /// The file's name on the owner's machine. Never used as a path.
    pub file_name: Personal,
    /// Claimed media type, e.g. `video/mp4`.
    pub media_type: String,
    /// Promised size, bytes.
    pub bytes: u64,
    /// Promised SHA-256, lower-case hex.
    pub sha256: String,
    /// Where the bytes go.
    pub storage_key: String,
    /// When the permission ends.
    pub expires_at: DateTime<Utc>,
}

/// The bytes are in storage and are what was promised; asks for one job per profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadCompleted {
    /// The asset.
    pub asset: AssetId,
    /// Its owner.
    pub owner: UserId,
    /// Where the bytes are.
    pub storage_key: String,
    /// Verified size, bytes.
    pub bytes: u64,
    /// Verified SHA-256, lower-case hex.
    pub sha256: String,
    /// The store's entity tag when verified.
    pub etag: Option<String>,
    /// Claimed media type.
    pub media_type: String,
    /// Profiles to render, e.g. `fast@1`; a job's id is UUIDv5(this event, profile).
    pub profiles: Vec<String>,
}

/// The permission to upload ended unused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadExpired {
    /// The asset that will not be.
    pub asset: AssetId,
}

/// The owner gave the upload up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadAborted {
    /// The asset that will not be.
    pub asset: AssetId,
}

/// What the file really is, as measured while decoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssetProbed {
    /// The asset.
    pub asset: AssetId,
    /// The job that looked.
    pub job: JobId,
    /// The measurements.
    pub media: MediaFacts,
}

/// Measured properties of a media file; what it does not have is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MediaFacts {
    /// Container format, e.g. `mov,mp4`.
    pub container: String,
    /// Length, milliseconds.
    pub duration_ms: Option<u64>,
    /// Picture width as displayed, pixels.
    pub width: Option<u32>,
    /// Picture height as displayed, pixels.
    pub height: Option<u32>,
    /// Frames per second, exactly.
    pub frame_rate: Option<FrameRate>,
    /// Codec of the chosen video track.
    pub video_codec: Option<String>,
    /// Codec of the chosen audio track.
    pub audio_codec: Option<String>,
    /// Sample rate of the chosen audio track, Hz.
    pub sample_rate: Option<u32>,
    /// Channels of the chosen audio track.
    pub channels: Option<u16>,
    /// Loudness of the chosen audio track; silence has none.
    pub loudness: Option<Loudness>,
    /// What is shown until the poster is there: its ThumbHash, Base64.
    pub thumbhash: Option<String>,
}

/// Loudness of a whole programme by EBU R 128, to a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Loudness {
    /// Integrated loudness, LUFS.
    pub integrated_lufs: f64,
    /// Loudness range, LU.
    pub range_lu: f64,
    /// The highest true peak of any channel, dBTP.
    pub true_peak_dbtp: f64,
}

/// Frames per second as a fraction: 29.97 is 30000/1001, which no float is, and timecode needs it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameRate {
    /// Frames …
    pub num: u32,
    /// … in so many seconds.
    pub den: NonZeroU32,
}

impl FrameRate {
    /// Frames per second, as near as a float comes.
    pub fn per_second(self) -> f64 {
        f64::from(self.num) / f64::from(self.den.get())
    }
}

/// A profile was asked for, beyond those of the upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RenditionRequested {
    /// The asset.
    pub asset: AssetId,
    /// The profile, e.g. `proxy720@1`.
    pub profile: String,
    /// The reprocessing run that asks, e.g. `new-encoder`; its jobs let all others go first. None: someone asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// One output of a job is whole and in storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RenditionCompleted {
    /// The asset.
    pub asset: AssetId,
    /// The job that made it.
    pub job: JobId,
    /// The job's profile.
    pub profile: String,
    /// The output's name, e.g. `proxy.mp4`.
    pub name: String,
    /// Where it is.
    pub storage_key: String,
    /// Its media type.
    pub media_type: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// Picture width, pixels.
    pub width: Option<u32>,
    /// Picture height, pixels.
    pub height: Option<u32>,
    /// Length, milliseconds.
    pub duration_ms: Option<u64>,
    /// CPU time that its job took, all attempts together, milliseconds; one of a job's facts tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

/// Why media could not be rendered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaError {
    /// Stable type: `input`, `limit`, `resource`, `infrastructure`, `died` or `cancelled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub message: String,
    /// Whether the same input may pass another time.
    pub retryable: bool,
}

/// An output, or with no name the whole job, could not be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RenditionFailed {
    /// The asset.
    pub asset: AssetId,
    /// The job that failed.
    pub job: JobId,
    /// Its profile.
    pub profile: String,
    /// The output that is missing; none: all of the job's.
    pub name: Option<String>,
    /// Why.
    pub error: MediaError,
    /// CPU time that its job took, all attempts together, milliseconds; one of a job's facts tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

/// A job was given up before it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RenditionCancelled {
    /// The asset.
    pub asset: AssetId,
    /// The job.
    pub job: JobId,
    /// Its profile.
    pub profile: String,
}

/// All requested renditions ended and the primary one is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssetReady {
    /// The asset.
    pub asset: AssetId,
}

/// All requested renditions ended and no primary one is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssetFailed {
    /// The asset.
    pub asset: AssetId,
    /// Why the last job failed.
    pub error: MediaError,
}

/// The input killed its renderer more than once and is not tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssetQuarantined {
    /// The asset.
    pub asset: AssetId,
    /// What happened.
    pub reason: String,
}

/// The owner took the asset away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssetDeleted {
    /// The asset.
    pub asset: AssetId,
}
