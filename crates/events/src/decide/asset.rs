//! Uploads, the assets they become, and the jobs that render them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::asset::{
    AssetDeleted, AssetFailed, AssetProbed, AssetQuarantined, AssetReady, MediaError, MediaFacts,
    RenditionCancelled, RenditionCompleted, RenditionFailed, RenditionRequested, UploadAborted,
    UploadCompleted, UploadExpired, UploadRequested,
};
use crate::id::{AssetId, EventId, JobId, UserId};

/// Jobs of one asset, of all times.
const JOBS_MAX: usize = 64;

/// Outputs that make an asset useful, best first.
pub const PRIMARY: [&str; 3] = ["proxy.mp4", "waveform.dat", "poster.jpg"];

/// Where an asset is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nobody asked for it.
    #[default]
    Unknown,
    /// Its bytes are awaited.
    Requested,
    /// Its bytes are there and verified.
    Uploaded,
    /// The upload expired or was given up.
    Gone,
    /// The owner took it away.
    Deleted,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its outputs are in storage.
    Done,
    /// Nothing of it is.
    Failed,
    /// It was given up.
    Cancelled,
}

/// A job of the asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it renders.
    pub profile: String,
    /// How it ended; none: not yet.
    pub outcome: Option<Outcome>,
}

/// What was promised of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Where they go.
    pub storage_key: String,
    /// How many.
    pub bytes: u64,
    /// Their SHA-256, lower-case hex.
    pub sha256: String,
    /// Their media type.
    pub media_type: String,
    /// Until when they may come.
    pub expires_at: DateTime<Utc>,
}

/// What deciding about an asset needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AssetState {
    /// Where it is in its life.
    pub phase: Phase,
    /// Whose it is.
    pub owner: Option<UserId>,
    /// What was promised of the upload.
    pub promise: Option<Promise>,
    /// Its jobs.
    pub jobs: BTreeMap<JobId, Job>,
    /// Its outputs, by name.
    pub renditions: Vec<String>,
    /// Whether it killed its renderers and is not tried again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
}

impl AssetState {
    /// Whether `user` may put it into a post.
    pub fn usable_by(&self, user: UserId) -> bool {
        self.owner == Some(user) && matches!(self.phase, Phase::Requested | Phase::Uploaded)
    }

    /// Whether there is something of it to look at, so that others see posts with it.
    pub fn viewable(&self) -> bool {
        self.phase != Phase::Deleted && self.has_primary()
    }

    /// The promise, when `actor` owns the asset.
    pub fn of(&self, actor: UserId) -> Result<&Promise, Refusal> {
        match &self.promise {
            Some(promise) if self.owner == Some(actor) && self.phase != Phase::Deleted => {
                Ok(promise)
            }
            _ => Err(Refusal::NotFound("asset")),
        }
    }

    fn settled(&self) -> bool {
        self.jobs.values().all(|job| job.outcome.is_some())
    }

    /// Whether the best output that its jobs could make is there. What one job failed to make, another one may have made.
    fn whole(&self) -> bool {
        let missing = |job: &Job| {
            job.outcome == Some(Outcome::Failed) && !self.has(&job.profile, Some(Outcome::Done))
        };
        !self.jobs.values().any(missing) && self.has_primary()
    }

    fn has_primary(&self) -> bool {
        let mut names = self.renditions.iter();
        names.any(|name| PRIMARY.contains(&name.as_str()))
    }

    /// Whether a job for `profile` stands so.
    fn has(&self, profile: &str, outcome: Option<Outcome>) -> bool {
        let mut jobs = self.jobs.values();
        jobs.any(|job| job.profile == profile && job.outcome == outcome)
    }

    /// Refuses to render what is not there, or what kills its renderers.
    fn renderable(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Uploaded if self.quarantined => Err(Refusal::WrongState(
                "the asset is quarantined: it killed its renderers",
            )),
            Phase::Uploaded => Ok(()),
            _ => Err(Refusal::WrongState("the upload is not complete")),
        }
    }

    fn end_job(&mut self, job: JobId, outcome: Outcome) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.outcome = Some(outcome);
        }
    }
}

impl State for AssetState {
    fn fold(&mut self, event: EventId, fact: &Fact) {
        let asked = |profile: &String| {
            (
                JobId::of(event, profile),
                Job {
                    profile: profile.clone(),
                    outcome: None,
                },
            )
        };
        match fact {
            Fact::UploadRequested(requested) => {
                self.phase = Phase::Requested;
                self.owner = Some(requested.owner);
                self.promise = Some(Promise {
                    storage_key: requested.storage_key.clone(),
                    bytes: requested.bytes,
                    sha256: requested.sha256.clone(),
                    media_type: requested.media_type.clone(),
                    expires_at: requested.expires_at,
                });
            }
            Fact::UploadCompleted(completed) => {
                self.phase = Phase::Uploaded;
                self.owner = Some(completed.owner);
                self.jobs.extend(completed.profiles.iter().map(asked));
            }
            Fact::RenditionRequested(requested) => self.jobs.extend([asked(&requested.profile)]),
            Fact::RenditionCompleted(completed) => {
                self.end_job(completed.job, Outcome::Done);
                if !self.renditions.contains(&completed.name) {
                    self.renditions.push(completed.name.clone());
                }
            }
            Fact::RenditionFailed(failed) if failed.name.is_none() => {
                self.end_job(failed.job, Outcome::Failed);
            }
            Fact::RenditionCancelled(cancelled) => self.end_job(cancelled.job, Outcome::Cancelled),
            Fact::AssetQuarantined(_) => self.quarantined = true,
            Fact::UploadExpired(_) | Fact::UploadAborted(_) => self.phase = Phase::Gone,
            Fact::AssetDeleted(_) => self.phase = Phase::Deleted,
            _ => {}
        }
    }
}

/// Allows an upload.
pub fn request_upload(state: &AssetState, request: UploadRequested) -> Decision {
    match state.phase {
        Phase::Unknown => Ok(vec![request.into()]),
        _ => Err(Refusal::WrongState("this upload was requested already")),
    }
}

/// Takes the bytes in, once storage has been seen to hold what was promised. Doing so twice is doing so once.
pub fn complete_upload(
    state: &AssetState,
    completed: UploadCompleted,
    now: DateTime<Utc>,
) -> Decision {
    let promise = state.of(completed.owner)?;
    match state.phase {
        Phase::Uploaded => Ok(vec![]),
        Phase::Requested if promise.expires_at < now => Err(Refusal::WrongState(
            "this upload has expired: begin a new one",
        )),
        Phase::Requested
            if (completed.bytes, &completed.sha256) == (promise.bytes, &promise.sha256) =>
        {
            Ok(vec![completed.into()])
        }
        Phase::Requested => Err(Refusal::WrongState(
            "the stored bytes are not those that were promised",
        )),
        _ => Err(Refusal::WrongState(
            "this upload has ended: begin a new one",
        )),
    }
}

/// Gives an upload up before its bytes were taken in.
pub fn abort_upload(state: &AssetState, asset: AssetId, actor: UserId) -> Decision {
    state.of(actor)?;
    match state.phase {
        Phase::Requested => Ok(vec![UploadAborted { asset }.into()]),
        Phase::Gone => Ok(vec![]),
        _ => Err(Refusal::WrongState(
            "the upload is complete: delete the asset instead",
        )),
    }
}

/// Ends a permission whose time has passed.
pub fn expire_upload(state: &AssetState, asset: AssetId, now: DateTime<Utc>) -> Decision {
    match &state.promise {
        Some(promise) if state.phase == Phase::Requested && promise.expires_at < now => {
            Ok(vec![UploadExpired { asset }.into()])
        }
        _ => Ok(vec![]),
    }
}

/// Takes an asset away.
pub fn delete(state: &AssetState, asset: AssetId, actor: UserId) -> Decision {
    if state.phase == Phase::Deleted && state.owner == Some(actor) {
        return Ok(vec![]);
    }
    state.of(actor)?;
    Ok(vec![AssetDeleted { asset }.into()])
}

/// Asks for one more profile, one job at a time.
pub fn request_rendition(
    state: &AssetState,
    asset: AssetId,
    actor: UserId,
    profile: &str,
) -> Decision {
    state.of(actor)?;
    state.renderable()?;
    if state.has(profile, None) {
        return Err(Refusal::WrongState("a job for this profile is under way"));
    }
    if state.jobs.len() >= JOBS_MAX {
        return Err(Refusal::WrongState(
            "there were as many jobs as an asset may have",
        ));
    }
    Ok(vec![requested(asset, profile, None)])
}

/// Asks again for what a job failed to make, by a job of its own. Nothing changes while another one is at it.
pub fn retry_job(state: &AssetState, asset: AssetId, actor: UserId, job: JobId) -> Decision {
    state.of(actor)?;
    let job = state.jobs.get(&job).ok_or(Refusal::NotFound("job"))?;
    match job.outcome {
        None => Ok(vec![]),
        Some(Outcome::Done) => Err(Refusal::WrongState("the job is done")),
        Some(_) if state.has(&job.profile, None) => Ok(vec![]),
        Some(_) => request_rendition(state, asset, actor, &job.profile),
    }
}

/// Asks for a profile on behalf of a reprocessing run. Nothing changes while another job is at it.
pub fn reprocess(state: &AssetState, asset: AssetId, profile: &str, run: &str) -> Decision {
    state.renderable()?;
    if state.has(profile, None) {
        return Ok(vec![]);
    }
    Ok(vec![requested(asset, profile, Some(run))])
}

fn requested(asset: AssetId, profile: &str, run: Option<&str>) -> Fact {
    RenditionRequested {
        asset,
        profile: profile.to_owned(),
        run: run.map(str::to_owned),
    }
    .into()
}

/// Gives a job up; with the last job, says what became of the asset.
pub fn cancel_job(state: &AssetState, asset: AssetId, actor: UserId, job: JobId) -> Decision {
    state.of(actor)?;
    if ended(state, job)? {
        return Ok(vec![]);
    }
    let mut facts = cancelled(state, asset, |open| open == job);
    let none = MediaError {
        kind: "cancelled".to_owned(),
        message: "its renditions were cancelled".to_owned(),
        retryable: true,
    };
    facts.extend(verdict(state, asset, &facts, none));
    Ok(facts)
}

/// Gives up those of the open jobs that `which` names.
fn cancelled(state: &AssetState, asset: AssetId, which: impl Fn(JobId) -> bool) -> Vec<Fact> {
    let open = state.jobs.iter().filter(|(_, job)| job.outcome.is_none());
    open.filter(|(id, _)| which(**id))
        .map(|(id, job)| {
            RenditionCancelled {
                asset,
                job: *id,
                profile: job.profile.clone(),
            }
            .into()
        })
        .collect()
}

/// What a job made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// What the input really is.
    pub media: Option<MediaFacts>,
    /// Outputs in storage.
    pub made: Vec<RenditionCompleted>,
    /// Outputs that the profile names and the input could not give.
    pub missing: Vec<RenditionFailed>,
}

/// Records a job's outputs; with the last job, what became of the asset.
pub fn finish_job(state: &AssetState, asset: AssetId, job: JobId, rendered: Rendered) -> Decision {
    if ended(state, job)? {
        return Ok(vec![]);
    }
    if rendered.made.is_empty() {
        return Err(Refusal::WrongState("a job that made nothing has failed"));
    }
    let mut facts: Vec<Fact> = vec![];
    facts.extend(
        rendered
            .media
            .map(|media| AssetProbed { asset, job, media }.into()),
    );
    facts.extend(rendered.made.into_iter().map(Fact::from));
    facts.extend(rendered.missing.into_iter().map(Fact::from));
    let none = MediaError {
        kind: "input".to_owned(),
        message: "no primary output".to_owned(),
        retryable: false,
    };
    facts.extend(verdict(state, asset, &facts, none));
    Ok(facts)
}

/// Records that a job made nothing; with the last job, what became of the asset.
pub fn fail_job(state: &AssetState, failed: RenditionFailed) -> Decision {
    if ended(state, failed.job)? {
        return Ok(vec![]);
    }
    let (asset, error) = (failed.asset, failed.error.clone());
    let mut facts = vec![
        RenditionFailed {
            name: None,
            ..failed
        }
        .into(),
    ];
    facts.extend(verdict(state, asset, &facts, error));
    Ok(facts)
}

/// Records that a job's input has killed its renderers too often, and gives the asset's other jobs up.
pub fn quarantine(state: &AssetState, failed: RenditionFailed) -> Decision {
    let (asset, job) = (failed.asset, failed.job);
    if ended(state, job)? {
        return Ok(vec![]);
    }
    let reason = failed.error.message.clone();
    let mut facts = vec![
        RenditionFailed {
            name: None,
            ..failed
        }
        .into(),
    ];
    facts.extend(cancelled(state, asset, |open| open != job));
    facts.push(AssetQuarantined { asset, reason }.into());
    Ok(facts)
}

fn ended(state: &AssetState, job: JobId) -> Result<bool, Refusal> {
    match (state.jobs.get(&job), state.phase) {
        (Some(job), Phase::Uploaded) => Ok(job.outcome.is_some()),
        (Some(_), _) => Ok(true),
        (None, _) => Err(Refusal::NotFound("job")),
    }
}

/// `asset.ready` or `asset.failed`, when `news` end the asset's last open job.
fn verdict(state: &AssetState, asset: AssetId, news: &[Fact], error: MediaError) -> Option<Fact> {
    let mut after = state.clone();
    for fact in news {
        // None of the facts that end a job is one whose event id matters to the state.
        after.fold(EventId(uuid::Uuid::nil()), fact);
    }
    match (after.settled(), after.whole()) {
        (false, _) => None,
        (true, true) => Some(AssetReady { asset }.into()),
        (true, false) => Some(AssetFailed { asset, error }.into()),
    }
}

#[cfg(test)]
mod tests;
