//! `/docs`: the routes, to read and to try. All of it is in the program: nothing is asked of anybody else's server.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::state::ApiState;

/// Only what is here, and the styles that the page writes into itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
);

/// The page and its parts.
pub(crate) fn routes() -> Router<ApiState> {
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    Router::from(page).layer(SetResponseHeaderLayer::overriding(
        CONTENT_SECURITY_POLICY,
        POLICY,
    ))
}
