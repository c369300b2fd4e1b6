//! The admin listener: `/health` (the process lives), `/ready` (what this process needs answers) and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;

use crate::http;
use crate::shutdown::Shutdown;

/// How long one dependency may take to answer before it counts as away.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// Something this process needs.
#[derive(Clone, Debug)]
pub enum Dependency {
    /// A Postgres database.
    Postgres(sqlx::PgPool),
}

impl Dependency {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
        }
    }

    async fn answers(&self) -> bool {
        match self {
            Self::Postgres(pool) => sqlx::query("SELECT 1").execute(pool).await.is_ok(),
        }
    }
}

/// What the routes of this module need.
#[derive(Clone)]
pub struct Health {
    needs: Arc<Vec<Dependency>>,
    metrics: PrometheusHandle,
}

impl Health {
    /// A process that needs `needs`.
    pub fn new(needs: Vec<Dependency>, metrics: PrometheusHandle) -> Self {
        Self {
            needs: Arc::new(needs),
            metrics,
        }
    }

    /// `/health` and `/ready`, for the public listener of a single machine.
    pub fn public_routes(&self) -> Router {
        Router::new()
            .route("/health", get(async || Json(json!({"status": "ok"}))))
            .route("/ready", get(ready))
            .with_state(self.clone())
    }

    /// All routes of the admin listener.
    pub fn admin_routes(&self) -> Router {
        let handle = self.metrics.clone();
        self.public_routes()
            .route("/metrics", get(async move || handle.render()))
    }

    /// Serves the admin routes on `address` until `shutdown`.
    pub async fn serve(
        self,
        address: SocketAddr,
        shutdown: &Shutdown,
    ) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        http::serve(listener, self.admin_routes(), shutdown);
        Ok(bound)
    }
}

async fn ready(State(health): State<Health>) -> Response {
    let mut away = Vec::new();
    for need in health.needs.iter() {
        if !tokio::time::timeout(CHECK_LIMIT, need.answers())
            .await
            .unwrap_or(false)
        {
            away.push(need.name());
        }
    }
    let status = if away.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({"ready": away.is_empty(), "away": away})),
    )
        .into_response()
}
