//! Whatever a test asks for, the answer must be one that the OpenAPI document has.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::body::HttpBody;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use serde_json::Value;

/// Where no more is promised: who does not keep to the document may be told other things.
const METHOD_NOT_ALLOWED: u16 = 405;

struct Operation {
    method: String,
    path: Vec<String>,
    body: bool,
    answers: Vec<Answer>,
}

struct Answer {
    status: u16,
    media_types: BTreeSet<String>,
    headers: BTreeSet<String>,
}

static DOCUMENT: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let document = serde_json::to_value(api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        let operations = item.as_object().unwrap().iter();
        let operations = operations.map(|(method, operation)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            body: operation["requestBody"].is_object(),
            answers: answers(&document, operation),
        });
        operations.collect::<Vec<_>>()
    });
    let mut operations: Vec<Operation> = operations.collect();
    // `/posts/live` is not the post `live`.
    operations.sort_by_key(|one| one.path.iter().filter(|part| part.starts_with('{')).count());
    operations
});

fn answers(document: &Value, operation: &Value) -> Vec<Answer> {
    let names = |object: &Value| {
        object
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys().cloned())
            .collect()
    };
    let answers = operation["responses"].as_object().unwrap().iter();
    let answers = answers.map(|(status, answer)| {
        let named = answer["$ref"]
            .as_str()
            .map(|at| document.pointer(&at[1..]).unwrap());
        let answer = named.unwrap_or(answer);
        let headers: BTreeSet<String> = names(&answer["headers"]);
        Answer {
            status: status.parse().unwrap(),
            media_types: names(&answer["content"]),
            headers: headers.iter().map(|name| name.to_lowercase()).collect(),
        }
    });
    answers.collect()
}

fn operation(method: &str, path: &str) -> Option<&'static Operation> {
    let parts: Vec<&str> = path.split('/').collect();
    DOCUMENT.iter().find(|one| {
        // A key of the store has slashes.
        let stored = path.starts_with("/storage/") && one.path[1] == "storage";
        let fits = |(part, wanted): (&&str, &String)| wanted.starts_with('{') || part == wanted;
        one.method == method
            && (stored || parts.len() == one.path.len() && parts.iter().zip(&one.path).all(fits))
    })
}

/// Headers that the document must have where they are answered.
const TOLD: [&str; 8] = [
    "cinelog-position",
    "cinelog-behind",
    "cinelog-stale",
    "link",
    "location",
    "set-cookie",
    "retry-after",
    "ratelimit",
];

/// A layer that ends the connection of who gets another answer, so that its test fails.
pub(crate) async fn holds(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let sent = !request.body().is_end_stream();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let Some(operation) = operation(method.as_str(), &path) else {
        return response;
    };
    if status == METHOD_NOT_ALLOWED || sent && !operation.body {
        return response;
    }
    let answer = operation
        .answers
        .iter()
        .find(|answer| answer.status == status);
    let answer = answer.unwrap_or_else(|| panic!("{method} {path} is not to answer {status}"));
    let media_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let known = media_type.is_none_or(|of| {
        let essence = of.split(';').next().unwrap_or_default();
        answer.media_types.contains(essence) || path.starts_with("/storage/")
    });
    assert!(
        known,
        "{method} {path} is not to answer {status} with {media_type:?}"
    );
    let told = |name: &&HeaderName| TOLD.contains(&name.as_str());
    for name in response.headers().keys().filter(told) {
        assert!(
            answer.headers.contains(name.as_str()),
            "{method} {path} is not to answer {status} with {name}"
        );
    }
    response
}
