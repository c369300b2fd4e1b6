//! `/openapi.json`, made from the handlers. What all operations share (the bearer token, problems as errors, the headers
//! of commands and reads) is added here once.

use axum::http::StatusCode;
use serde_json::Value;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, Object, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Response, ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{FieldError, ProblemBody};

const PROBLEM: &str = "Problem";

/// Reads of the log itself, of accounts and of the machinery: there is no read model to wait for.
const OF_NO_MODEL: [&str; 5] = [
    "/v1/admin/",
    "/v1/api-keys",
    "/v1/facts",
    "/v1/uploads/",
    "/v1/users/me/export",
];

/// Of the problems that an operation may answer with.
const PROBLEMS: [StatusCode; 13] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::CONFLICT,
    StatusCode::GONE,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// What there is before the first route.
pub(crate) fn base() -> OpenApi {
    let description = "Uploads, posts, comments, reactions, follows, matches, feed and search. A command answers with \
        `Cinelog-Position`; a read that carries it as `Cinelog-Min-Position` sees what the command did.";
    let info = InfoBuilder::new()
        .title("Cinelog")
        .version("1")
        .description(Some(description))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds what all operations share.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_default();
    components
        .schemas
        .insert(PROBLEM.to_owned(), ProblemBody::schema());
    components
        .responses
        .insert(PROBLEM.to_owned(), RefOr::T(problem()));
    components
        .schemas
        .insert(FieldError::name().into_owned(), FieldError::schema());
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    for (path, item) in &mut api.paths.paths {
        name(path, item);
        let PathItem {
            get,
            put,
            post,
            delete,
            patch,
            ..
        } = item;
        if let Some(read) = get {
            fails(read);
            if !is_open(read) {
                let waits = !OF_NO_MODEL.iter().any(|of| path.starts_with(of));
                let wait = "Wait until the read models have come so far.";
                share(
                    read,
                    waits.then(|| header("Cinelog-Min-Position", wait, text())),
                );
            }
        }
        for command in [put, post, delete, patch].into_iter().flatten() {
            fails(command);
            if is_open(command) {
                continue;
            }
            // State that is no history is asked for without a key.
            let keyed = !path.starts_with("/v1/auth/") || path == "/v1/auth/invites";
            let key = keyed.then(|| {
                let same = "Asking again with the same key changes nothing.";
                let form = text().min_length(Some(1)).max_length(Some(255));
                header("Idempotency-Key", same, form.pattern(Some("^[!-~]*$")))
            });
            share(command, key);
        }
    }
    api
}

/// Calls each operation by its method and path, as nothing else is called: handlers' names are theirs in their files only.
fn name(path: &str, item: &mut PathItem) {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    let operations = [
        ("get", get),
        ("put", put),
        ("post", post),
        ("delete", delete),
        ("patch", patch),
    ];
    let words = path.trim_start_matches("/v1").replace(['{', '}'], "");
    for (method, operation) in operations {
        if let Some(operation) = operation {
            operation.operation_id = Some(format!("{method}{}", words.replace(['/', '-'], "_")));
        }
    }
}

/// Whether who calls needs not say who.
fn is_open(operation: &Operation) -> bool {
    operation.security.is_some()
}

fn share(operation: &mut Operation, parameter: Option<Parameter>) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend(parameter.map(RefOr::T));
    operation.security = Some(vec![SecurityRequirement::new(
        "bearer",
        Vec::<String>::new(),
    )]);
}

/// Has an operation name each status that a problem of it may have.
fn fails(operation: &mut Operation) {
    let problem = || RefOr::Ref(Ref::from_response_name(PROBLEM));
    let answers = PROBLEMS
        .iter()
        .map(|status| (status.as_str().to_owned(), problem()));
    operation.responses.responses.extend(answers);
}

fn problem() -> Response {
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(PROBLEM)))
        .build();
    ResponseBuilder::new()
        .description("A problem; its `type` is stable")
        .content("application/problem+json", body)
        .build()
}

/// A text that is one of `words`, where another crate has the set.
pub(crate) fn one_of(words: impl IntoIterator<Item = impl Into<Value>>) -> Object {
    text().enum_values(Some(words)).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn header(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(schema.build()))
        .build()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::problem::{Kind, Problem};

    #[test]
    fn every_problem_has_a_status_that_operations_name() {
        // Of what is no operation: another method, and stored objects.
        let others = [
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::RANGE_NOT_SATISFIABLE,
        ];
        let named = [&PROBLEMS[..], &others].concat();
        for kind in Kind::ALL {
            let status = Problem::from(*kind).into_response().status();
            assert!(named.contains(&status), "{kind:?} is answered {status}");
        }
    }
}
