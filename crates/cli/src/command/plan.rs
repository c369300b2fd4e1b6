//! `cinelog plan`.

use std::path::PathBuf;

use accounts::Plan as Allowed;
use anyhow::{Context, bail};
use clap::Subcommand;
use events::id::TenantId;
use service::db::Role;
use uuid::Uuid;

use super::token::default_tenant;
use crate::data::DataFolder;
use crate::out::say;
use crate::stack::Database;

/// How much of storage who may take up: originals, and all made from them.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Plan {
    #[command(subcommand)]
    what: What,
    /// In which tenant; the one that every install has unless set.
    #[arg(long, global = true)]
    tenant: Option<TenantId>,
    /// The data folder of a running `cinelog up`, for what is not configured.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
}

#[derive(Subcommand)]
enum What {
    /// Tells all plans.
    List,
    /// Makes a plan, or changes it. The plan `free` is that of everybody who has no other.
    Set {
        /// Its name.
        plan: String,
        /// What it allows, bytes.
        bytes: i64,
    },
    /// Gives somebody a plan.
    Give {
        /// The account's handle; or the user's id, for who is known to another issuer.
        who: String,
        /// The plan's name.
        plan: String,
    },
}

const EXAMPLES: &str = "Examples:
  cinelog plan list --data ./data
  cinelog plan set studio 500000000000 --data ./data
  cinelog plan give ana studio --data ./data";

impl Plan {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = self.data.as_deref().map(DataFolder::look).transpose()?;
        let database = self.database.or_in(folder.as_ref());
        match self.what {
            What::List => {
                for Allowed { plan, bytes } in
                    accounts::plans(&database.pool(Role::Owner).await?).await?
                {
                    say(format_args!("{plan} {bytes}"));
                }
            }
            What::Set { plan, bytes } => {
                if bytes < 0 {
                    bail!("a plan cannot allow less than nothing");
                }
                let allowed = Allowed { plan, bytes };
                accounts::set_plan(&database.pool(Role::Owner).await?, &allowed).await?;
                say(format_args!("{} allows {bytes} bytes", allowed.plan));
            }
            What::Give { who, plan } => {
                let tenant = match self.tenant {
                    Some(tenant) => tenant,
                    None => default_tenant(&database).await?,
                };
                let pool = database.pool(Role::Accounts).await?;
                let user = match who.parse::<Uuid>() {
                    Ok(user) => user,
                    Err(_) => accounts::owner(&pool, tenant.0, &who)
                        .await?
                        .with_context(|| format!("there is no account {who} in tenant {tenant}"))?,
                };
                if !accounts::subscribe(&pool, tenant.0, user, &plan).await? {
                    bail!("there is no plan {plan}: make it by `cinelog plan set {plan} BYTES`");
                }
                say(format_args!("{who} has the plan {plan}"));
            }
        }
        Ok(())
    }
}
