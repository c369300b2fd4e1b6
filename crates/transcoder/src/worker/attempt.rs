//! One attempt at a job: fetch the original, run the job, store what it made. Nothing here is visible to anyone until
//! the log names it; what an attempt stored in vain is taken away later ([`crate::objects`]).

use std::future::Future;
use std::path::{Path, PathBuf};

use events::decide::asset::Rendered;
use events::fact::asset::RenditionCompleted;
use events::failpoint;
use sqlx::PgPool;
use storage::{Checksum, Expected, Key, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::policy::{FETCH, STORE, Stage};
use super::progress::Meter;
use super::result;
use crate::error::{JobError, Kind};
use crate::job::Job;
use crate::objects;
use crate::profile::Profile;
use crate::publish::{InputFile, Manifest};
use crate::run::{JobOutcome, Output, Runner};
use crate::scratch::Scratch;

/// What an attempt needs besides its job.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job,
    pub(super) pool: &'a PgPool,
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
        let parent = self.scratch.map_or_else(std::env::temp_dir, Path::to_owned);
        // What a killed worker left may be large.
        let scratch = tokio::task::spawn_blocking(move || Scratch::make(&parent, "cinelog-work-"))
            .await
            .unwrap_or_else(|error| Err(error.into()))
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
                storage::Error::ChecksumDiffers { .. }
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
        let spent = self.job.spent.clone();
        let rendering = tokio::task::spawn_blocking(move || {
            let input = std::fs::File::open(source)
                .map_err(|error| JobError::infra("open the original", error))?;
            std::fs::create_dir(&out)
                .map_err(|error| JobError::infra("make a scratch folder", error))?;
            let mut tell = |said| progress.send_modify(|meter| meter.take(profile, said));
            runner.run_job(&input, profile, &out, &mut tell, &spent, &cancel)
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
            &outcome.claimed,
            &outcome.outputs,
            &outcome.warnings,
        );
        let outputs = outcome.outputs.clone();
        let (manifest, text) = self.manifest(outcome)?;
        let keys = self.announce(outputs.iter().chain([&manifest])).await?;
        let mut made = Vec::with_capacity(keys.len());
        for (output, key) in outputs.iter().zip(&keys) {
            made.push(self.keep_output(output, key).await?);
        }
        // Last, as it was announced.
        if let Some(key) = keys.last() {
            made.push(self.keep_manifest(&manifest, key, text).await?);
        }
        Ok(Rendered {
            media: Some(media),
            made,
            missing,
        })
    }

    /// Writes down where the outputs are about to be put, and tells it: by their hashes, unless something that had such a name
    /// is being taken away.
    async fn announce(
        &self,
        outputs: impl Iterator<Item = &Output> + Clone,
    ) -> Result<Vec<Key>, JobError> {
        let doing =
            |error: &dyn std::fmt::Display| JobError::infra("say what will be stored", error);
        for token in [None, Some(self.job.token)] {
            let keys = outputs.clone().map(|output| self.key(output, token));
            let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
            let all = keys.iter().cloned().collect();
            let announced = objects::announce(self.pool, self.job, &all).await;
            if announced.map_err(|error| doing(&error))? {
                return Ok(keys);
            }
        }
        Err(doing(&"its own keys are being taken away"))
    }

    async fn keep_output(
        &self,
        output: &Output,
        key: &Key,
    ) -> Result<RenditionCompleted, JobError> {
        let stored = self
            .store
            .upload_file(key, &output.path, output.media_type)
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
        Ok(result::completed(self.job, output, key))
    }

    /// The manifest that names the outputs, and its text.
    fn manifest(&self, outcome: JobOutcome) -> Result<(Output, Vec<u8>), JobError> {
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
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| JobError::infra("write the manifest", error))?;
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
        Ok((described, text))
    }

    async fn keep_manifest(
        &self,
        manifest: &Output,
        key: &Key,
        text: Vec<u8>,
    ) -> Result<RenditionCompleted, JobError> {
        self.store
            .put(key, text.into(), manifest.media_type)
            .await
            .map_err(|error| JobError::infra("store the manifest", error))?;
        Ok(RenditionCompleted {
            cpu_ms: Some(self.job.cpu_total_ms()),
            ..result::completed(self.job, manifest, key)
        })
    }

    fn key(&self, output: &Output, token: Option<Uuid>) -> Result<Key, JobError> {
        let doing = |error: &dyn std::fmt::Display| JobError::infra("name an output", error);
        let sha256: Checksum = output.sha256.parse().map_err(|error| doing(&error))?;
        let ending = output
            .name
            .rsplit_once('.')
            .map_or("bin", |(_, ending)| ending);
        let ending = token.map_or(ending.to_owned(), |token| format!("{token}.{ending}"));
        Key::rendition(
            self.job.tenant.0,
            self.job.asset.0,
            &self.job.profile,
            &sha256,
            &ending,
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
