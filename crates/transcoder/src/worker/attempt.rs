//! One attempt at a job: fetch the original, run the job, store what it made. Nothing here is visible to anyone until
//! the log names it; what an attempt stored in vain is an orphan under a key that only the same bytes can have again.

use std::future::Future;
use std::path::{Path, PathBuf};

use events::decide::asset::Rendered;
use events::fact::asset::RenditionCompleted;
use events::failpoint;
use storage::{Checksum, Expected, Key, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::policy::{FETCH, STORE, Stage};
use super::progress::Meter;
use super::result;
use crate::error::{JobError, Kind};
use crate::job::Job;
use crate::profile::Profile;
use crate::publish::{InputFile, Manifest};
use crate::run::{JobOutcome, Output, Runner};

/// What an attempt needs besides its job.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job,
    pub(super) store: &'a Store,
    pub(super) runner: &'a Runner,
    /// Under which folder it works; none: the system's temporary one.
    pub(super) scratch: Option<&'a Path>,
    pub(super) cancel: &'a CancellationToken,
}

impl Attempt<'_> {
    /// Makes the job's outputs and stores them.
    pub(super) async fn make(&self, progress: watch::Sender<Meter>) -> Result<Rendered, JobError> {
        let profile: Profile = self
            .job
            .profile
            .parse()
            .map_err(|error: String| JobError::infra("know the profile", error))?;
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("cinelog-job-");
        let scratch = match self.scratch {
            Some(parent) => folder.tempdir_in(parent),
            None => folder.tempdir(),
        }
        .map_err(|error| JobError::infra("make a scratch folder", error))?;
        let source = scratch.path().join("source");
        self.within(&FETCH, self.fetch(&source)).await?;
        let outcome = self
            .render(profile, source, scratch.path().join("out"), progress)
            .await?;
        let rendered = self.within(&STORE, Box::pin(self.keep(outcome))).await?;
        failpoint::hit("worker.after_upload");
        Ok(rendered)
    }

    async fn fetch(&self, to: &Path) -> Result<(), JobError> {
        let bad = |error: &dyn std::fmt::Display| JobError::infra("read the job", error);
        let key: Key = self.job.source_key.parse().map_err(|error| bad(&error))?;
        let sha256: Checksum = self
            .job
            .source_sha256
            .parse()
            .map_err(|error| bad(&error))?;
        let limit = u64::try_from(self.job.source_bytes).map_err(|error| bad(&error))?;
        let expected = Expected {
            etag: None,
            sha256: Some(sha256),
        };
        match self.store.download(&key, to, limit, &expected).await {
            Ok(_) => Ok(()),
            Err(
                storage::Error::ChecksumDiffers(_)
                | storage::Error::SizeDiffers { .. }
                | storage::Error::Changed(_)
                | storage::Error::LimitReached { .. },
            ) => Err(JobError::input(
                "the stored object is not what was uploaded",
            )),
            // A missing one too: it was there when the upload was completed, so the store is at fault, or its address.
            Err(error) => Err(JobError::infra("fetch the original", error)),
        }
    }

    /// Runs the job on a thread that may block; the child itself is started by the one thread that never ends.
    async fn render(
        &self,
        profile: Profile,
        source: PathBuf,
        out: PathBuf,
        progress: watch::Sender<Meter>,
    ) -> Result<JobOutcome, JobError> {
        let (runner, cancel) = (self.runner.clone(), self.cancel.clone());
        let rendering = tokio::task::spawn_blocking(move || {
            let input = std::fs::File::open(source)
                .map_err(|error| JobError::infra("open the original", error))?;
            std::fs::create_dir(&out)
                .map_err(|error| JobError::infra("make a scratch folder", error))?;
            let mut tell = |said| progress.send_modify(|meter| meter.take(profile, said));
            runner.run_job(&input, profile, &out, &mut tell, &cancel)
        });
        rendering
            .await
            .unwrap_or_else(|error| Err(JobError::infra("run the job", error)))
    }

    /// Stores the outputs, then the manifest that names them.
    async fn keep(&self, outcome: JobOutcome) -> Result<Rendered, JobError> {
        let media = result::media_facts(&outcome.claimed, &outcome.measured, &outcome.plan);
        let missing = result::missing(
            self.job,
            outcome.profile,
            &outcome.plan,
            &outcome.outputs,
            &outcome.warnings,
        );
        let mut made = Vec::with_capacity(outcome.outputs.len() + 1);
        for output in &outcome.outputs {
            made.push(self.keep_output(output).await?);
        }
        made.push(self.keep_manifest(outcome).await?);
        Ok(Rendered {
            media: Some(media),
            made,
            missing,
        })
    }

    async fn keep_output(&self, output: &Output) -> Result<RenditionCompleted, JobError> {
        let key = self.key(&output.name, &output.sha256)?;
        let stored = self
            .store
            .upload_file(&key, &output.path, output.media_type)
            .await
            .map_err(|error| JobError::infra("store an output", error))?;
        if stored.bytes != output.bytes
            || stored.sha256.map(|sum| sum.to_string()) != Some(output.sha256.clone())
        {
            return Err(JobError::infra(
                "store an output",
                "it changed after it was checked",
            ));
        }
        Ok(result::completed(self.job, output, &key))
    }

    async fn keep_manifest(&self, outcome: JobOutcome) -> Result<RenditionCompleted, JobError> {
        let doing = |error: &dyn std::fmt::Display| JobError::infra("store the manifest", error);
        let name = result::manifest_name(outcome.profile);
        let manifest = Manifest {
            version: 1,
            input: InputFile {
                bytes: self.job.source_bytes.unsigned_abs(),
                sha256: self.job.source_sha256.clone(),
            },
            claimed: outcome.claimed,
            measured: outcome.measured,
            plans: vec![(outcome.profile, outcome.plan)],
            outputs: outcome.outputs,
            warnings: outcome.warnings,
            sandbox: outcome.sandbox,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| doing(&error))?;
        let described = Output {
            name,
            path: PathBuf::new(),
            media_type: "application/json",
            bytes: text.len() as u64,
            sha256: Checksum::of(&text).to_string(),
            width: None,
            height: None,
            rate: None,
            duration_ms: None,
        };
        let key = self.key(&described.name, &described.sha256)?;
        self.store
            .put(&key, text.into(), described.media_type)
            .await
            .map_err(|error| doing(&error))?;
        Ok(result::completed(self.job, &described, &key))
    }

    fn key(&self, name: &str, sha256: &str) -> Result<Key, JobError> {
        let doing = |error: &dyn std::fmt::Display| JobError::infra("name an output", error);
        let sha256: Checksum = sha256.parse().map_err(|error| doing(&error))?;
        let ending = name.rsplit_once('.').map_or("bin", |(_, ending)| ending);
        Key::rendition(
            self.job.tenant.0,
            self.job.asset.0,
            &self.job.profile,
            &sha256,
            ending,
        )
        .map_err(|error| doing(&error))
    }

    async fn within<T>(
        &self,
        stage: &Stage,
        work: impl Future<Output = Result<T, JobError>>,
    ) -> Result<T, JobError> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(JobError::new(Kind::Cancelled, "cancelled")),
            done = tokio::time::timeout(stage.limit, work) => {
                done.unwrap_or_else(|_| Err(JobError::infra(stage.doing, "it took too long")))
            }
        }
    }
}
