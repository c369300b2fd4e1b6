//! `cinelog token`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use events::id::TenantId;
use service::clock::Clock;
use service::db::Role;
use service::secret::Secret;

use crate::data::DataFolder;
use crate::out::say;
use crate::stack::Database;

/// Makes a token that says who calls the API.
#[derive(clap::Args)]
pub struct Token {
    /// The data folder of `cinelog up`; its secret signs the token.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The secret that signs the token, where there is no data folder.
    #[arg(
        long,
        env = "SECRET_KEY",
        hide_env_values = true,
        required_unless_present = "data"
    )]
    secret_key: Option<Secret>,
    /// Who: any name; the same name is the same user.
    #[arg(long)]
    user: String,
    /// In which tenant; the one that every install has unless set.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// With which rights; may be given again.
    #[arg(long = "role", value_enum, default_values_t = [api::auth::Role::Member])]
    roles: Vec<api::auth::Role>,
    /// For how many hours.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    #[command(flatten)]
    database: Database,
}

impl Token {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = self.data.as_deref().map(DataFolder::look).transpose()?;
        let secret = match (&folder, self.secret_key) {
            (_, Some(secret)) => secret,
            (Some(folder), None) => folder.secret_key()?,
            (None, None) => anyhow::bail!("set --data or SECRET_KEY"),
        };
        let database = self.database.or_in(folder.as_ref());
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => default_tenant(&database).await?,
        };
        let ttl = Duration::from_secs(self.hours.saturating_mul(3600));
        say(api::auth::issue(
            &secret,
            tenant,
            &self.user,
            &self.roles,
            ttl,
            Clock::System.now(),
        ));
        Ok(())
    }
}

/// The tenant that every install has from the start.
pub(super) async fn default_tenant(database: &Database) -> anyhow::Result<TenantId> {
    let pool = database
        .pool(Role::Api)
        .await
        .context("the default tenant is in the database; is `cinelog up` running?")?;
    Ok(
        sqlx::query_scalar("SELECT tenant FROM log.tenants WHERE name = 'default'")
            .fetch_one(&pool)
            .await?,
    )
}
