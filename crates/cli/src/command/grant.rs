//! `cinelog grant`.

use std::path::PathBuf;

use anyhow::bail;
use api::auth::Role;
use events::id::TenantId;
use service::db::Role as DatabaseRole;

use super::token::default_tenant;
use crate::data::DataFolder;
use crate::out::say;
use crate::stack::Database;

/// Gives an account of our own these roles, in place of those it had; with none, it has none any more. Its sessions end: who has
/// it logs in again.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Grant {
    /// The account's handle.
    handle: String,
    /// What it may do beyond what every user may; may be given again.
    #[arg(long = "role", value_enum)]
    roles: Vec<Role>,
    /// In which tenant; the one that every install has unless set.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// The data folder of a running `cinelog up`, for what is not configured.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
}

const EXAMPLES: &str = "Examples:
  cinelog grant ana --role moderator --data ./data
  cinelog grant ana --data ./data                  takes all roles away";

impl Grant {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = self.data.as_deref().map(DataFolder::look).transpose()?;
        let database = self.database.or_in(folder.as_ref());
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => default_tenant(&database).await?,
        };
        let roles: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        let pool = database.pool(DatabaseRole::Accounts).await?;
        if !accounts::grant(&pool, tenant.0, &self.handle, &roles).await? {
            bail!("there is no account {} in tenant {tenant}", self.handle);
        }
        let told = if roles.is_empty() {
            "no roles".to_owned()
        } else {
            roles.join(", ")
        };
        say(format_args!("{} has {told}", self.handle));
        Ok(())
    }
}
