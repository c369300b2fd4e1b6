//! `GET /admin/{status,lag,scaling,parked,rebuilds,jobs,storage}`: the platform as those see it who run it. Everything is counted over
//! all tenants, and nobody's content is in it.

pub(crate) mod lag;
pub(crate) mod status;
pub(crate) mod work;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use service::db::TenantTx;

use crate::auth::Principal;
use crate::problem::Problem;
use crate::state::ApiState;

/// Somebody who runs the platform.
pub(crate) struct Operator(Principal);

impl FromRequestParts<ApiState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let who = Principal::from_request_parts(parts, state).await?;
        who.must_operate()?;
        Ok(Self(who))
    }
}

impl Operator {
    /// A transaction that sees what operators see beyond what every user does.
    async fn begin(&self, state: &ApiState) -> Result<TenantTx, Problem> {
        let mut tx = TenantTx::begin(&state.pool, self.0.tenant.0, self.0.user.0).await?;
        tx.as_operator().await?;
        Ok(tx)
    }
}
