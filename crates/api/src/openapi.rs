//! `/openapi.json`, made from the handlers. What all operations share (the bearer token, problems as errors, the headers
//! of commands and reads) is added here once.

use axum::http::StatusCode;
use serde_json::Value;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, Object, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Response, ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{FieldError, ProblemBody};

const PROBLEM: &str = "Problem";
const JSON: &str = "application/json";

/// Reads of the log itself, of accounts and of the machinery: there is no read model to wait for.
const OF_NO_MODEL: [&str; 5] = [
    "/v1/admin/",
    "/v1/api-keys",
    "/v1/facts",
    "/v1/uploads/",
    EXPORT,
];

/// Who was never here is not there.
const ME: &str = "/v1/users/me";
/// Where there is nothing before one is let in.
const AUTH: &str = "/v1/auth/";
/// Answers that set the cookie, or take it away.
const COOKIE: [&str; 4] = [
    "/v1/auth/register",
    "/v1/auth/login",
    "/v1/auth/refresh",
    "/v1/auth/logout",
];
/// It goes on at a position, and one is made at a time.
const EXPORT: &str = "/v1/users/me/export";
/// Commands that change no history, or what read models do not show.
const OF_NO_FACT: [&str; 8] = [
    "post /v1/api-keys",
    "delete /v1/api-keys/{id}",
    "post /v1/auth/invites",
    "post /v1/uploads/{id}/parts",
    "post /v1/posts/{id}/views",
    "post /v1/notifications/read",
    "put /v1/search/synonyms",
    "delete /v1/users/me",
];

/// What answers say in their headers.
const HEADERS: [(&str, &str); 9] = [
    (
        "Cinelog-Position",
        "Up to where read models must be to have what this did; for `Cinelog-Min-Position`.",
    ),
    (
        "Cinelog-Behind",
        "How many seconds what was read is behind at most.",
    ),
    (
        "Cinelog-Stale",
        "`true` where `Cinelog-Min-Position` was not reached in time.",
    ),
    ("ETag", "What the body is called; for `If-None-Match`."),
    ("Link", "Where the list goes on: `rel=\"next\"`."),
    ("Set-Cookie", "For `POST /auth/refresh`."),
    ("RateLimit", "What is left of the caller's rate."),
    ("RateLimit-Policy", "The caller's rate."),
    (
        "Retry-After",
        "After how many seconds asking again may help.",
    ),
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
    for (name, why) in HEADERS {
        let header = HeaderBuilder::new()
            .schema(Some(text().build()))
            .description(Some(why));
        components
            .headers
            .insert(name.to_owned(), RefOr::T(header.build()));
    }
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(path, method));
            let shape = Shape::of(path, method, operation);
            shape.ask(operation);
            shape.tell(operation);
            shape.fail(operation);
        }
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    let all = [
        ("get", get),
        ("put", put),
        ("post", post),
        ("delete", delete),
        ("patch", patch),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// An operation is called by its method and path, as nothing else is called: handlers' names are theirs in their files only.
fn name(path: &str, method: &str) -> String {
    let words = path.trim_start_matches("/v1").replace(['{', '}'], "");
    format!("{method}{}", words.replace(['/', '-'], "_"))
}

/// What of an operation decides which headers and problems it has.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing of an operation"
)]
struct Shape<'a> {
    path: &'a str,
    /// Changes something.
    command: bool,
    /// Who calls needs not say who.
    open: bool,
    /// Has a body.
    body: bool,
    /// Has parameters in its query.
    query: bool,
    /// Answers a part of a list, which goes on.
    list: bool,
    /// Reads a read model, for which one may wait.
    model: bool,
    /// Is done once for a key.
    keyed: bool,
    /// Facts come of it.
    fact: bool,
    /// Answers JSON that one may keep.
    kept: bool,
}

impl<'a> Shape<'a> {
    fn of(path: &'a str, method: &str, operation: &Operation) -> Self {
        let (command, open) = (method != "get", operation.security.is_some());
        let has =
            |is: fn(&Parameter) -> bool| operation.parameters.iter().flatten().any(is_that(is));
        let answered = operation.responses.responses.get("200");
        let json = matches!(answered, Some(RefOr::T(answer)) if answer.content.contains_key(JSON));
        Self {
            path,
            command,
            open,
            body: operation.request_body.is_some(),
            query: has(|parameter| parameter.parameter_in == ParameterIn::Query),
            list: has(|parameter| parameter.name == "cursor") || path == "/v1/facts",
            model: !command && !open && !OF_NO_MODEL.iter().any(|of| path.starts_with(of)),
            // State that is no history is asked for without a key.
            keyed: command && !open && (!path.starts_with(AUTH) || path == "/v1/auth/invites"),
            fact: !OF_NO_FACT.contains(&&*format!("{method} {path}")),
            kept: !command && json,
        }
    }

    /// Adds what a request says in its headers.
    fn ask(&self, operation: &mut Operation) {
        let key = text().min_length(Some(1)).max_length(Some(255));
        let key = key.pattern(Some("^[!-~]*$"));
        let parameters = [
            (
                self.model,
                "Cinelog-Min-Position",
                "Wait until the read models have come so far.",
                text(),
            ),
            (
                self.keyed,
                "Idempotency-Key",
                "Asking again with the same key changes nothing.",
                key,
            ),
            (
                self.kept,
                "If-None-Match",
                "The `ETag` of what the client has: the answer is 304 if that is still so.",
                text(),
            ),
        ];
        let parameters = parameters.into_iter().filter(|(has, ..)| *has);
        let parameters = parameters.map(|(_, name, why, form)| RefOr::T(header(name, why, form)));
        operation
            .parameters
            .get_or_insert_default()
            .extend(parameters);
        if !self.open {
            let bearer = SecurityRequirement::new("bearer", Vec::<String>::new());
            operation.security = Some(vec![bearer]);
        }
    }

    /// Adds what an answer says in its headers.
    fn tell(&self, operation: &mut Operation) {
        if self.kept {
            let same = Response::new("What the client has is what would be answered");
            let responses = &mut operation.responses.responses;
            responses.insert("304".to_owned(), RefOr::T(same));
        }
        let told = [
            ("Cinelog-Position", self.keyed && self.fact),
            ("Cinelog-Behind", self.model),
            ("Cinelog-Stale", self.model),
            ("ETag", self.kept),
            ("Link", self.list),
            ("Set-Cookie", COOKIE.contains(&self.path)),
            ("RateLimit", !self.open),
            ("RateLimit-Policy", !self.open),
        ];
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else {
                continue;
            };
            for (name, _) in told.iter().filter(|(_, has)| *has) {
                let header = RefOr::Ref(told_by(name));
                response.headers.insert((*name).to_owned(), header);
            }
        }
    }

    /// Has the operation name each status that a problem of it may have.
    fn fail(&self, operation: &mut Operation) {
        let Self {
            command,
            open,
            body,
            ..
        } = *self;
        let statuses = [
            (StatusCode::BAD_REQUEST, true),
            (
                StatusCode::UNAUTHORIZED,
                !open || self.path.starts_with(AUTH),
            ),
            (
                StatusCode::FORBIDDEN,
                !open || command || self.path.starts_with("/storage/"),
            ),
            (
                StatusCode::NOT_FOUND,
                body || self.path.contains('{') || self.path == ME,
            ),
            // An export is made once at a time.
            (StatusCode::CONFLICT, command || self.path == EXPORT),
            (
                StatusCode::GONE,
                self.model || self.list || self.path == EXPORT,
            ),
            (StatusCode::PAYLOAD_TOO_LARGE, body),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, body),
            (
                StatusCode::RANGE_NOT_SATISFIABLE,
                !command && self.path.starts_with("/storage/"),
            ),
            (StatusCode::UNPROCESSABLE_ENTITY, command || self.query),
            (StatusCode::TOO_MANY_REQUESTS, true),
            (StatusCode::INTERNAL_SERVER_ERROR, true),
            (StatusCode::SERVICE_UNAVAILABLE, true),
            (StatusCode::GATEWAY_TIMEOUT, true),
        ];
        let problem = || RefOr::Ref(Ref::from_response_name(PROBLEM));
        let statuses = statuses.into_iter().filter(|(_, may)| *may);
        let problems = statuses.map(|(status, _)| (status.as_str().to_owned(), problem()));
        operation.responses.responses.extend(problems);
    }
}

/// Whether a parameter that is not elsewhere is so.
fn is_that(is: fn(&Parameter) -> bool) -> impl Fn(&RefOr<Parameter>) -> bool {
    move |parameter| matches!(parameter, RefOr::T(parameter) if is(parameter))
}

fn problem() -> Response {
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(PROBLEM)))
        .build();
    let told = ["Retry-After", "RateLimit", "RateLimit-Policy"];
    let response = ResponseBuilder::new()
        .description("A problem; its `type` is stable")
        .content("application/problem+json", body);
    told.into_iter()
        .fold(response, |response, name| {
            response.header_ref(name, told_by(name))
        })
        .build()
}

fn told_by(header: &str) -> Ref {
    Ref::new(format!("#/components/headers/{header}"))
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
    use std::collections::BTreeSet;

    use axum::response::IntoResponse;

    use super::*;
    use crate::problem::{Kind, Problem};

    #[test]
    fn every_problem_has_a_status_that_operations_name() {
        let paths = crate::document().paths.paths.into_values();
        let named: BTreeSet<String> = paths
            .flat_map(|mut item| {
                let statuses = operations(&mut item)
                    .flat_map(|(_, operation)| operation.responses.responses.keys());
                statuses.cloned().collect::<Vec<_>>()
            })
            .chain(["405".to_owned()])
            .collect();
        for kind in Kind::ALL {
            let status = Problem::from(*kind).into_response().status();
            assert!(
                named.contains(status.as_str()),
                "{kind:?} is answered {status}"
            );
        }
    }
}
