//! Assets, uploads, renditions, warnings and jobs from the facts of an asset, which all have the asset's lane.

use chrono::{DateTime, Utc};
use events::decide::asset::PRIMARY;
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::asset::{MediaError, RenditionCompleted, RenditionFailed, UploadRequested};
use events::id::{AssetId, JobId, Position, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::Measured;
use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct AssetRow {
    tenant: TenantId,
    asset: AssetId,
    owner: UserId,
    state: String,
    media_type: String,
    bytes: u64,
    sha256: String,
    storage_key: String,
    facts: Option<Measured>,
    error: Option<MediaError>,
    viewable: bool,
    position: Position,
    requested_at: DateTime<Utc>,
}

row!(
    AssetRow in "asset", key (tenant: TenantId, asset: AssetId),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid",
    "ON CONFLICT (tenant, asset) DO UPDATE SET
        state = EXCLUDED.state, facts = EXCLUDED.facts, error = EXCLUDED.error, viewable = EXCLUDED.viewable"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct UploadRow {
    tenant: TenantId,
    asset: AssetId,
    owner: UserId,
    file_name: Option<String>,
    expires_at: DateTime<Utc>,
}

row!(
    UploadRow in "upload", key (tenant: TenantId, asset: AssetId),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid",
    ""
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct RenditionRow {
    tenant: TenantId,
    asset: AssetId,
    name: String,
    profile: String,
    job: JobId,
    storage_key: String,
    media_type: String,
    bytes: u64,
    sha256: String,
    width: Option<u32>,
    height: Option<u32>,
    duration_ms: Option<u64>,
}

row!(
    RenditionRow in "rendition", key (tenant: TenantId, asset: AssetId, name: String),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid AND t.name = k->>2",
    "ON CONFLICT (tenant, asset, name) DO UPDATE SET
        profile = EXCLUDED.profile, job = EXCLUDED.job, storage_key = EXCLUDED.storage_key,
        media_type = EXCLUDED.media_type, bytes = EXCLUDED.bytes, sha256 = EXCLUDED.sha256, width = EXCLUDED.width,
        height = EXCLUDED.height, duration_ms = EXCLUDED.duration_ms"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct WarningRow {
    tenant: TenantId,
    asset: AssetId,
    profile: String,
    name: String,
    error: MediaError,
}

row!(
    WarningRow in "warning", key (tenant: TenantId, asset: AssetId, profile: String, name: String),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid AND t.profile = k->>2 AND t.name = k->>3",
    "ON CONFLICT (tenant, asset, profile, name) DO UPDATE SET error = EXCLUDED.error"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct JobRow {
    tenant: TenantId,
    job: JobId,
    asset: AssetId,
    owner: UserId,
    profile: String,
    state: String,
    error: Option<MediaError>,
    position: Position,
}

row!(
    JobRow in "job", key (tenant: TenantId, job: JobId),
    "t.tenant = (k->>0)::uuid AND t.job = (k->>1)::uuid",
    "ON CONFLICT (tenant, job) DO UPDATE SET state = EXCLUDED.state, error = EXCLUDED.error"
);

/// The asset that a fact is about.
fn subject(fact: &Fact) -> Option<AssetId> {
    Some(match fact {
        Fact::UploadRequested(fact) => fact.asset,
        Fact::UploadCompleted(fact) => fact.asset,
        Fact::UploadExpired(fact) => fact.asset,
        Fact::UploadAborted(fact) => fact.asset,
        Fact::AssetProbed(fact) => fact.asset,
        Fact::RenditionRequested(fact) => fact.asset,
        Fact::RenditionCompleted(fact) => fact.asset,
        Fact::RenditionFailed(fact) => fact.asset,
        Fact::RenditionCancelled(fact) => fact.asset,
        Fact::AssetReady(fact) => fact.asset,
        Fact::AssetFailed(fact) => fact.asset,
        Fact::AssetQuarantined(fact) => fact.asset,
        Fact::AssetDeleted(fact) => fact.asset,
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    subject(fact).is_some()
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let mut model = Model::load(batch, tx).await?;
    for recorded in batch {
        model.fold(recorded);
    }
    model.assets.store(tx).await?;
    model.uploads.store(tx).await?;
    model.renditions.store(tx).await?;
    model.warnings.store(tx).await?;
    model.jobs.store(tx).await
}

pub(super) async fn forget(
    (tenant, owner): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "UPDATE upload SET file_name = NULL WHERE tenant = $1 AND owner = $2 AND file_name IS NOT NULL",
    )
    .bind(tenant)
    .bind(owner)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

struct Model {
    assets: Rows<AssetRow>,
    uploads: Rows<UploadRow>,
    renditions: Rows<RenditionRow>,
    warnings: Rows<WarningRow>,
    jobs: Rows<JobRow>,
}

impl Model {
    async fn load(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<Self> {
        let (mut assets, mut uploads, mut renditions, mut warnings, mut jobs) =
            (vec![], vec![], vec![], vec![], vec![]);
        for recorded in batch {
            let tenant = recorded.tenant;
            assets.extend(subject(&recorded.fact).map(|asset| (tenant, asset)));
            match &recorded.fact {
                Fact::UploadRequested(fact) => uploads.push((tenant, fact.asset)),
                Fact::AssetDeleted(fact) => uploads.push((tenant, fact.asset)),
                Fact::RenditionCompleted(fact) => {
                    renditions.push((tenant, fact.asset, fact.name.clone()));
                    jobs.push((tenant, fact.job));
                }
                Fact::RenditionFailed(fact) => {
                    warnings.extend(
                        fact.name
                            .clone()
                            .map(|name| (tenant, fact.asset, fact.profile.clone(), name)),
                    );
                    jobs.push((tenant, fact.job));
                }
                Fact::RenditionCancelled(fact) => jobs.push((tenant, fact.job)),
                _ => {}
            }
        }
        Ok(Self {
            assets: Rows::load(assets, tx).await?,
            uploads: Rows::load(uploads, tx).await?,
            renditions: Rows::load(renditions, tx).await?,
            warnings: Rows::load(warnings, tx).await?,
            jobs: Rows::load(jobs, tx).await?,
        })
    }

    fn fold(&mut self, recorded: &Recorded) {
        let tenant = recorded.tenant;
        match &recorded.fact {
            Fact::UploadRequested(fact) => self.request(recorded, fact),
            Fact::UploadCompleted(fact) => {
                self.state(tenant, fact.asset, "preparing");
                for profile in &fact.profiles {
                    self.ask(recorded, fact.asset, profile);
                }
            }
            Fact::UploadExpired(fact) => self.state(tenant, fact.asset, "expired"),
            Fact::UploadAborted(fact) => self.state(tenant, fact.asset, "aborted"),
            Fact::AssetProbed(fact) => {
                if let Some(asset) = self.assets.get_mut((tenant, fact.asset)) {
                    let measured = Measured::from(fact.media.clone());
                    asset.facts = Some(measured.after(asset.facts.take()));
                }
            }
            Fact::RenditionRequested(fact) => self.ask(recorded, fact.asset, &fact.profile),
            Fact::RenditionCompleted(fact) => self.complete(tenant, fact),
            Fact::RenditionFailed(fact) => self.fail(tenant, fact),
            Fact::RenditionCancelled(fact) => self.end(tenant, fact.job, "cancelled", None),
            Fact::AssetReady(fact) => self.state(tenant, fact.asset, "ready"),
            Fact::AssetFailed(fact) => {
                self.state(tenant, fact.asset, "failed");
                if let Some(asset) = self.assets.get_mut((tenant, fact.asset)) {
                    asset.error = Some(fact.error.clone());
                }
            }
            Fact::AssetQuarantined(fact) => {
                self.state(tenant, fact.asset, "quarantined");
                if let Some(asset) = self.assets.get_mut((tenant, fact.asset)) {
                    let message = fact.reason.clone();
                    asset.error = Some(MediaError {
                        kind: "died".to_owned(),
                        message,
                        retryable: false,
                    });
                }
            }
            Fact::AssetDeleted(fact) => {
                self.state(tenant, fact.asset, "deleted");
                if let Some(asset) = self.assets.get_mut((tenant, fact.asset)) {
                    asset.viewable = false;
                }
                *self.uploads.slot((tenant, fact.asset)) = None;
            }
            _ => {}
        }
    }

    fn request(&mut self, recorded: &Recorded, fact: &UploadRequested) {
        let tenant = recorded.tenant;
        *self.assets.slot((tenant, fact.asset)) = Some(AssetRow {
            tenant,
            asset: fact.asset,
            owner: fact.owner,
            state: "waiting".to_owned(),
            media_type: fact.media_type.clone(),
            bytes: fact.bytes,
            sha256: fact.sha256.clone(),
            storage_key: fact.storage_key.clone(),
            facts: None,
            error: None,
            viewable: false,
            position: recorded.position,
            requested_at: recorded.recorded_at,
        });
        *self.uploads.slot((tenant, fact.asset)) = Some(UploadRow {
            tenant,
            asset: fact.asset,
            owner: fact.owner,
            file_name: fact.file_name.text().map(str::to_owned),
            expires_at: fact.expires_at,
        });
    }

    fn state(&mut self, tenant: TenantId, asset: AssetId, state: &str) {
        if let Some(asset) = self.assets.get_mut((tenant, asset)) {
            state.clone_into(&mut asset.state);
        }
    }

    /// A job that a fact asks for; its id follows from the fact, so nothing can be there yet.
    fn ask(&mut self, recorded: &Recorded, asset: AssetId, profile: &str) {
        let Some(owner) = self
            .assets
            .get_mut((recorded.tenant, asset))
            .map(|asset| asset.owner)
        else {
            return;
        };
        let job = JobId::of(recorded.event_id, profile);
        *self.jobs.slot((recorded.tenant, job)) = Some(JobRow {
            tenant: recorded.tenant,
            job,
            asset,
            owner,
            profile: profile.to_owned(),
            state: "queued".to_owned(),
            error: None,
            position: recorded.position,
        });
    }

    fn end(&mut self, tenant: TenantId, job: JobId, state: &str, error: Option<MediaError>) {
        if let Some(job) = self.jobs.get_mut((tenant, job)) {
            state.clone_into(&mut job.state);
            job.error = error;
        }
    }

    fn complete(&mut self, tenant: TenantId, fact: &RenditionCompleted) {
        self.end(tenant, fact.job, "done", None);
        if PRIMARY.contains(&fact.name.as_str())
            && let Some(asset) = self.assets.get_mut((tenant, fact.asset))
        {
            asset.viewable = true;
        }
        *self
            .renditions
            .slot((tenant, fact.asset, fact.name.clone())) = Some(RenditionRow {
            tenant,
            asset: fact.asset,
            name: fact.name.clone(),
            profile: fact.profile.clone(),
            job: fact.job,
            storage_key: fact.storage_key.clone(),
            media_type: fact.media_type.clone(),
            bytes: fact.bytes,
            sha256: fact.sha256.clone(),
            width: fact.width,
            height: fact.height,
            duration_ms: fact.duration_ms,
        });
    }

    /// A missing output is a warning; the job itself ends with its outputs, or with a failure that names none.
    fn fail(&mut self, tenant: TenantId, fact: &RenditionFailed) {
        let Some(name) = fact.name.clone() else {
            return self.end(tenant, fact.job, "failed", Some(fact.error.clone()));
        };
        let (asset, profile) = (fact.asset, fact.profile.clone());
        let slot = self
            .warnings
            .slot((tenant, asset, profile.clone(), name.clone()));
        *slot = Some(WarningRow {
            tenant,
            asset,
            profile,
            name,
            error: fact.error.clone(),
        });
    }
}
