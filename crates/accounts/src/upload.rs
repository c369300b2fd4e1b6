//! Uploads that are not over: what they reserve of their owners' plans, and when to look what became of them.
//!
//! A row lasts from the permission, whose append commits with it, until the upload's end is known everywhere: its bytes are reserved
//! until the read model of usage counts them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{Accounts, Error, Turn, turn};

/// Who uploads is given so long to say that it is done; then somebody looks.
const FIRST_LOOK: chrono::Duration = chrono::Duration::minutes(5);

/// The plan of who has none of their own.
const EVERYBODYS: &str = "free";

/// An upload that is not over.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Upload {
    /// In which tenant.
    pub tenant: Uuid,
    /// The asset to be.
    pub asset: Uuid,
    /// Who uploads.
    pub owner: Uuid,
    /// Bytes that it reserves.
    pub bytes: i64,
    /// What the bucket calls the upload, where it comes in parts.
    pub upload: Option<String>,
    /// The size of its parts.
    pub part_bytes: Option<i64>,
    /// Until when it may come.
    pub expires_at: DateTime<Utc>,
    /// The entity tag of what came and was not what was promised.
    pub refused: Option<String>,
}

/// How much somebody may take up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Plan {
    /// Its name.
    pub plan: String,
    /// Bytes of originals and of all made from them.
    pub bytes: i64,
}

/// Somebody's uploads, while no other one of theirs can begin.
pub struct Reserving {
    tx: Transaction<'static, Postgres>,
    turn: Turn,
    /// What they may take up.
    pub plan: Plan,
    /// What they have reserved: assets, and the bytes of each, of what was not given up.
    pub open: Vec<(Uuid, i64)>,
}

impl Reserving {
    /// Reserves what a new upload promises, before anything of it is begun in a bucket; in the transaction to append in, with a turn
    /// that lasts as long.
    pub async fn reserve(
        mut self,
        new: &Upload,
        now: DateTime<Utc>,
    ) -> Result<(Transaction<'static, Postgres>, Turn), Error> {
        sqlx::query(
            "INSERT INTO accounts.uploads (tenant, asset, owner, bytes, part_bytes, expires_at, next_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(new.tenant)
        .bind(new.asset)
        .bind(new.owner)
        .bind(new.bytes)
        .bind(new.part_bytes)
        .bind(new.expires_at)
        .bind(now + FIRST_LOOK)
        .execute(&mut *self.tx)
        .await?;
        Ok((self.tx, self.turn))
    }
}

impl Accounts {
    /// Holds the owner's uploads, to reserve one more. Who waits for others of the owner's takes turns, so that few connections wait.
    pub async fn reserving(&self, tenant: Uuid, owner: Uuid) -> Result<Reserving, Error> {
        let turn = turn(&self.0.reserving).await?;
        let mut tx = self.begin(tenant).await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4005))")
            .bind(owner)
            .execute(&mut *tx)
            .await?;
        let plan = plan(tenant, owner).fetch_one(&mut *tx).await?;
        let open = sqlx::query_as(
            "SELECT asset, bytes FROM accounts.uploads WHERE tenant = $1 AND owner = $2 AND bytes > 0",
        )
        .bind(tenant)
        .bind(owner)
        .fetch_all(&mut *tx)
        .await?;
        Ok(Reserving {
            tx,
            turn,
            plan,
            open,
        })
    }

    /// What the owner may take up.
    pub async fn plan(&self, tenant: Uuid, owner: Uuid) -> Result<Plan, Error> {
        let mut tx = self.begin(tenant).await?;
        let plan = plan(tenant, owner).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(plan)
    }

    /// The upload of this asset, unless it is over.
    pub async fn upload(&self, tenant: Uuid, asset: Uuid) -> Result<Option<Upload>, Error> {
        let found =
            sqlx::query_as("SELECT * FROM accounts.uploads WHERE tenant = $1 AND asset = $2");
        Ok(found
            .bind(tenant)
            .bind(asset)
            .fetch_optional(&self.0.pool)
            .await?)
    }

    /// What came of an upload, by its entity tag, is not what was promised.
    pub async fn refuse_upload(&self, tenant: Uuid, asset: Uuid, etag: &str) -> Result<(), Error> {
        sqlx::query("UPDATE accounts.uploads SET refused = $3 WHERE tenant = $1 AND asset = $2")
            .bind(tenant)
            .bind(asset)
            .bind(etag)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// How many uploads of all tenants are not over, and how many bytes they reserve.
    pub async fn open_uploads(&self) -> Result<(i64, i64), Error> {
        let open = sqlx::query_as(
            "SELECT count(*), COALESCE(sum(bytes), 0)::bigint FROM accounts.uploads",
        );
        Ok(open.fetch_one(&self.0.pool).await?)
    }

    /// Nothing more can come of an upload: it reserves nothing any more.
    pub async fn free_upload(&self, tenant: Uuid, asset: Uuid) -> Result<(), Error> {
        sqlx::query("UPDATE accounts.uploads SET bytes = 0 WHERE tenant = $1 AND asset = $2")
            .bind(tenant)
            .bind(asset)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// An upload in parts was begun in the bucket, which calls it so; returns what it was called the first time, none where the upload is
    /// over.
    pub async fn parts_begun(
        &self,
        tenant: Uuid,
        asset: Uuid,
        upload: &str,
    ) -> Result<Option<String>, Error> {
        let begun = sqlx::query_scalar(
            "UPDATE accounts.uploads SET upload = coalesce(upload, $3) WHERE tenant = $1 AND asset = $2 RETURNING upload",
        );
        let begun = begun.bind(tenant).bind(asset).bind(upload);
        Ok(begun.fetch_optional(&self.0.pool).await?)
    }

    /// Something became of these assets' uploads: they are looked at next. Those that are over are passed over.
    pub async fn look_soon(
        &self,
        assets: &[(Uuid, Uuid)],
        now: DateTime<Utc>,
    ) -> Result<u64, Error> {
        let (tenants, assets): (Vec<Uuid>, Vec<Uuid>) = assets.iter().copied().unzip();
        let told = sqlx::query(
            "UPDATE accounts.uploads SET next_at = least(next_at, $3)
            WHERE (tenant, asset) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        );
        let told = told
            .bind(tenants)
            .bind(assets)
            .bind(now)
            .execute(&self.0.pool);
        Ok(told.await?.rows_affected())
    }

    /// The upload that is to be looked at next. Nobody else is given it for a while, which doubles with each look up to an hour, and is
    /// enough to read it at `rate` bytes a second.
    pub async fn to_look_at(&self, rate: u64, now: DateTime<Utc>) -> Result<Option<Upload>, Error> {
        let due = sqlx::query_as(
            "UPDATE accounts.uploads u
            SET looks = u.looks + 1, next_at = $1 + greatest(
                least(interval '1 minute' * 2 ^ least(u.looks, 10), interval '1 hour'),
                interval '1 minute' + make_interval(secs => u.bytes / $2::float8))
            FROM (
                SELECT tenant, asset FROM accounts.uploads WHERE next_at <= $1 ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
            ) due
            WHERE u.tenant = due.tenant AND u.asset = due.asset
            RETURNING u.*",
        );
        let due = due.bind(now).bind(rate as f64);
        Ok(due.fetch_optional(&self.0.pool).await?)
    }

    /// All know what became of an upload.
    pub async fn upload_over(&self, tenant: Uuid, asset: Uuid) -> Result<(), Error> {
        sqlx::query("DELETE FROM accounts.uploads WHERE tenant = $1 AND asset = $2")
            .bind(tenant)
            .bind(asset)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }
}

type PlanQuery = sqlx::query::QueryAs<'static, Postgres, Plan, sqlx::postgres::PgArguments>;

fn plan(tenant: Uuid, owner: Uuid) -> PlanQuery {
    sqlx::query_as(
        "SELECT plan, bytes FROM accounts.plans
        WHERE plan = coalesce((SELECT plan FROM accounts.subscribers WHERE tenant = $1 AND owner = $2), $3)",
    )
    .bind(tenant)
    .bind(owner)
    .bind(EVERYBODYS)
}

/// All plans. `pool` has the rights of `Role::Owner`.
pub async fn plans(pool: &PgPool) -> sqlx::Result<Vec<Plan>> {
    sqlx::query_as("SELECT plan, bytes FROM accounts.plans ORDER BY bytes, plan")
        .fetch_all(pool)
        .await
}

/// Makes a plan, or changes how much it allows. `pool` has the rights of `Role::Owner`.
pub async fn set_plan(pool: &PgPool, plan: &Plan) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO accounts.plans (plan, bytes) VALUES ($1, $2) ON CONFLICT (plan) DO UPDATE SET bytes = EXCLUDED.bytes",
    )
    .bind(&plan.plan)
    .bind(plan.bytes)
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives a user a plan; false if there is no such plan. `pool` has the rights of `Role::Accounts`.
pub async fn subscribe(pool: &PgPool, tenant: Uuid, owner: Uuid, plan: &str) -> sqlx::Result<bool> {
    let mut tx = crate::begin(pool, tenant).await?;
    let given = sqlx::query(
        "INSERT INTO accounts.subscribers (tenant, owner, plan) SELECT $1, $2, plan FROM accounts.plans WHERE plan = $3
        ON CONFLICT (tenant, owner) DO UPDATE SET plan = EXCLUDED.plan",
    )
    .bind(tenant)
    .bind(owner)
    .bind(plan)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(given.rows_affected() == 1)
}
