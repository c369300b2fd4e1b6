//! All routes. Adding one is a file and a line here.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CONTENT_TYPE, ETAG, LINK, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowHeaders, AllowMethods, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::edge::edge;
use crate::limit::rate::{self, of_address, of_user};
use crate::limit::{answer_in_time, in_flight, verify_in_time};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;
use crate::{cache, command, docs, live, openapi, query, storage};

/// What pages of other origins may read of an answer besides its body.
const EXPOSED: [HeaderName; 9] = [
    HeaderName::from_static("cinelog-position"),
    HeaderName::from_static("cinelog-behind"),
    HeaderName::from_static("cinelog-stale"),
    ETAG,
    LINK,
    LOCATION,
    rate::LEFT,
    rate::POLICY,
    RETRY_AFTER,
];

/// The public listener's routes. What is too much is refused before a route is looked for, at next to no cost; `more` are those of
/// the process, which are asked for however much that is.
pub fn router(state: ApiState, more: Router) -> Router {
    let cors = cors(&state);
    let more = more
        .layer(from_fn_with_state(state.clone(), of_address))
        .layer(from_fn(edge));
    Router::new()
        .fallback_service(routed(state.clone()))
        .layer(from_fn_with_state(state, in_flight))
        .merge(more)
        // Outside of what gives errors their bodies: a page elsewhere must see those too.
        .layer(cors)
}

fn routed(state: ApiState) -> Router {
    let (v1, document) = documented();
    let document = Bytes::from(document.to_json().unwrap_or_default());
    let openapi = async move || {
        (
            [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            document,
        )
    };
    v1.layer(from_fn_with_state(state.clone(), of_user))
        .layer(from_fn_with_state(state.clone(), cache::tag))
        .layer(CompressionLayer::new())
        // For strangers: nothing is made for each of them, neither compressed nor copied.
        .route("/openapi.json", get(openapi))
        .merge(docs::routes())
        // Objects are neither tagged by content nor compressed: they have entity tags and ranges of their own.
        .route("/storage/{*key}", get(storage::get).put(storage::put))
        .fallback(async || Problem::from(Kind::NotFound("route")))
        .layer(from_fn_with_state(state.clone(), of_address))
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(edge))
        .with_state(state)
}

/// What pages of other origins may do: none of them anything unless it is configured.
fn cors(state: &ApiState) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(state.config.cors_origins.clone())
        .allow_credentials(true)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(Duration::from_hours(1))
}

/// The description of all routes for programs.
pub fn document() -> OpenApi {
    documented().1
}

fn documented() -> (Router<ApiState>, OpenApi) {
    let routes = commands().merge(queries()).layer(from_fn(answer_in_time));
    let slow = OpenApiRouter::new()
        .routes(routes!(command::upload::complete::complete))
        .layer(from_fn(verify_in_time));
    let (v1, mut document) = OpenApiRouter::with_openapi(openapi::base())
        .nest("/v1", routes.merge(slow))
        .split_for_parts();
    // The description knows no path for a key with slashes, which these are served under.
    let mut stored = OpenApiRouter::<ApiState>::new().routes(routes!(storage::get, storage::put));
    document.merge(stored.to_openapi());
    (v1, openapi::complete(document))
}

fn commands() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(command::upload::request))
        .routes(routes!(command::upload::get, command::upload::abort))
        .routes(routes!(command::upload::parts::sign))
        .routes(routes!(command::upload::notice::hmac))
        .routes(routes!(command::upload::notice::r2))
        .routes(routes!(command::upload::notice::s3_sns))
        .routes(routes!(command::upload::delete_asset))
        .routes(routes!(command::job::request))
        .routes(routes!(command::job::retry))
        .routes(routes!(command::job::cancel))
        .routes(routes!(command::post::publish))
        .routes(routes!(command::post::edit, command::post::delete))
        .routes(routes!(command::share::share))
        .routes(routes!(command::share::view))
        .routes(routes!(command::comment::add))
        .routes(routes!(command::comment::edit, command::comment::delete))
        .routes(routes!(
            command::reaction::react_to_post,
            command::reaction::unreact_to_post
        ))
        .routes(routes!(
            command::reaction::react_to_comment,
            command::reaction::unreact_to_comment
        ))
        .routes(routes!(command::account::register))
        .routes(routes!(command::account::login))
        .routes(routes!(command::account::refresh))
        .routes(routes!(command::account::log_out))
        .routes(routes!(command::account::verify))
        .routes(routes!(command::account::reset))
        .routes(routes!(command::account::invite))
        .routes(routes!(query::api_key::list, command::api_key::make))
        .routes(routes!(command::api_key::delete))
        .routes(routes!(
            query::graph::me,
            command::profile::update,
            command::erasure::erase_me
        ))
        .routes(routes!(command::erasure::erasure))
        .routes(routes!(command::follow::follow, command::follow::unfollow))
        .routes(routes!(command::follow::accept, command::follow::decline))
        .routes(routes!(command::block::block, command::block::unblock))
        .routes(routes!(command::block::mute, command::block::unmute))
        .routes(routes!(query::pairing::admirers, command::pairing::like))
        .routes(routes!(command::pairing::pass))
        .routes(routes!(command::pairing::end))
        .routes(routes!(command::moderation::report_post))
        .routes(routes!(command::moderation::report_comment))
        .routes(routes!(command::moderation::hide))
        .routes(routes!(command::moderation::restore))
        .routes(routes!(command::moderation::suspend))
        .routes(routes!(command::notification::read))
        .routes(routes!(
            query::notification::preferences,
            command::notification::prefer
        ))
}

fn queries() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(query::asset::list))
        .routes(routes!(query::asset::get))
        .routes(routes!(query::asset::rendition))
        .routes(routes!(query::asset::waveform))
        .routes(routes!(query::asset::job))
        .routes(routes!(live::asset::follow))
        .routes(routes!(live::news::feed))
        .routes(routes!(live::news::inbox))
        .routes(routes!(query::post::get))
        .routes(routes!(query::comment::list))
        .routes(routes!(query::comment::post_reactions))
        .routes(routes!(query::comment::comment_reactions))
        .routes(routes!(query::graph::get))
        .routes(routes!(query::graph::posts))
        .routes(routes!(query::graph::followers))
        .routes(routes!(query::graph::following))
        .routes(routes!(query::graph::requests))
        .routes(routes!(query::graph::blocks))
        .routes(routes!(query::graph::mutes))
        .routes(routes!(query::graph::suggestions))
        .routes(routes!(query::pairing::matches))
        .routes(routes!(query::pairing::candidates))
        .routes(routes!(query::feed::feed))
        .routes(routes!(query::feed::nearby))
        .routes(routes!(query::feed::hashtag))
        .routes(routes!(query::search::search))
        .routes(routes!(query::search::complete))
        .routes(routes!(query::synonym::list, command::synonym::replace))
        .routes(routes!(query::trending::trends))
        .routes(routes!(query::usage::own))
        .routes(routes!(query::moderation::queue))
        .routes(routes!(query::notification::list))
        .routes(routes!(query::facts::read))
        .routes(routes!(query::export::export))
        .routes(routes!(query::admin::status::status))
        .routes(routes!(query::admin::lag::lag))
        .routes(routes!(query::admin::lag::scaling))
        .routes(routes!(query::admin::lag::parked))
        .routes(routes!(query::admin::work::rebuilds))
        .routes(routes!(query::admin::work::jobs))
        .routes(routes!(query::admin::work::storage))
}

/// A bug in one request must not take the others' connection down.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(
        panic = message.unwrap_or("not a text"),
        "a handler panicked"
    );
    Problem::from(Kind::Internal).into_response()
}
