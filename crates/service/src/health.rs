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
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http;
use crate::shutdown::Shutdown;

/// How long one dependency may take to answer before it counts as away.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
/// How long what was found holds for all who ask.
const FRESH: Duration = Duration::from_secs(1);

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

/// When it was asked, and what did not answer.
type Away = (Instant, Vec<&'static str>);

/// What the routes of this module need.
#[derive(Clone)]
pub struct Health {
    needs: Arc<Vec<Dependency>>,
    /// As of last time.
    away: Arc<Mutex<Option<Away>>>,
    metrics: PrometheusHandle,
}

impl Health {
    /// A process that needs `needs`.
    pub fn new(needs: Vec<Dependency>, metrics: PrometheusHandle) -> Self {
        Self {
            needs: Arc::new(needs),
            away: Arc::default(),
            metrics,
        }
    }

    /// What does not answer. One asks for all who want to know at once.
    async fn away(&self) -> Vec<&'static str> {
        let mut known = self.away.lock().await;
        if let Some((at, away)) = &*known
            && at.elapsed() < FRESH
        {
            return away.clone();
        }
        let mut away = vec![];
        for need in self.needs.iter() {
            let answers = tokio::time::timeout(CHECK_LIMIT, need.answers()).await;
            if answers != Ok(true) {
                away.push(need.name());
            }
        }
        *known = Some((Instant::now(), away.clone()));
        away
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
        http::serve(listener, self.admin_routes(), &[], shutdown);
        Ok(bound)
    }
}

async fn ready(State(health): State<Health>) -> Response {
    let away = health.away().await;
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
