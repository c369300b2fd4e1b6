//! Who may not, of every operation of the OpenAPI document: each row is an operation, each column somebody who is refused. A new
//! route is in it by being in the document.

use std::time::Duration;

use api::auth::Role;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testing::report::tell;

use crate::app::{App, assert_problem};

/// What only some roles may: the operation, and the roles.
const GUARDED: [(&str, &[Role]); 14] = [
    ("POST /v1/auth/invites", &[Role::Moderator]),
    ("GET /v1/facts", &[Role::Data, Role::DataGlobal]),
    ("GET /v1/moderation/queue", &[Role::Moderator]),
    ("POST /v1/moderation/hide", &[Role::Moderator]),
    ("POST /v1/moderation/restore", &[Role::Moderator]),
    ("POST /v1/moderation/suspend", &[Role::Moderator]),
    ("PUT /v1/search/synonyms", &[Role::Moderator]),
    ("GET /v1/admin/status", &[Role::Operator]),
    ("GET /v1/admin/lag", &[Role::Operator]),
    ("GET /v1/admin/scaling", &[Role::Operator]),
    ("GET /v1/admin/parked", &[Role::Operator]),
    ("GET /v1/admin/rebuilds", &[Role::Operator]),
    ("GET /v1/admin/jobs", &[Role::Operator]),
    ("GET /v1/admin/storage", &[Role::Operator]),
];

pub(crate) const ROLES: [Role; 5] = [
    Role::Member,
    Role::Moderator,
    Role::Operator,
    Role::Data,
    Role::DataGlobal,
];

/// An operation, with something that is nobody's in the place of each parameter.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    /// Whether one must say who one is.
    closed: bool,
}

impl Operation {
    /// Whether its answer does not end.
    fn is_stream(&self) -> bool {
        self.path.ends_with("/live")
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(api::document()).unwrap();
    let mut operations = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            operations.push(Operation {
                name: format!("{method} {path}"),
                path: filled(path),
                body: (!body.is_null()).then(|| example(&document, body)),
                closed: operation["security"][0]["bearer"].is_array(),
                method,
            });
        }
    }
    operations
}

/// The path with an id that nobody has, and a kind of reaction, a name and a hashtag that there may be.
fn filled(path: &str) -> String {
    let nobodys = uuid::Uuid::from_u128(0xDEAD).to_string();
    let path = path.replace("{id}", &nobodys).replace("{kind}", "like");
    path.replace("{name}", "proxy.mp4").replace("{tag}", "gato")
}

/// The example that every body has.
fn example(document: &Value, schema: &Value) -> Value {
    // One that may be left out is one of two.
    let schema = schema["oneOf"].get(0).unwrap_or(schema);
    let named = schema["$ref"]
        .as_str()
        .and_then(|name| name.rsplit('/').next());
    let schema = named.map_or(schema, |name| &document["components"]["schemas"][name]);
    let example = schema.get("example").cloned();
    example.unwrap_or_else(|| panic!("{schema} has no example"))
}

pub(crate) async fn ask(app: &App, operation: &Operation, bearer: Option<&str>) -> Response {
    let request = app.http.request(
        operation.method.clone(),
        format!("{}{}", app.url, operation.path),
    );
    let request = match bearer {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let request = match &operation.body {
        Some(body) => request.json(body),
        None => request,
    };
    request.send().await.unwrap()
}

#[tokio::test]
async fn nobody_gets_in_by_any_route_without_a_token_that_holds() {
    let app = App::start().await;
    let operations = operations();
    let expired = app.user_for(app.tenant, "ana", Duration::ZERO).token;
    let other = api::auth::issue(
        &service::secret::Secret::new("a secret that another installation has, not this one"),
        app.tenant,
        "ana",
        &[Role::Operator],
        Duration::from_mins(10),
        service::clock::Clock::System.now(),
    );
    let key = format!("cinelog_{}", "A".repeat(86));
    let refused = [
        (None, "token-missing"),
        (Some(&*expired), "token-expired"),
        (Some(&*other), "token-invalid"),
        (Some(&*key), "token-invalid"),
        (Some("x.y.z"), "token-invalid"),
    ];
    let (head, mut cells) = (app.head().await, 0);
    for operation in operations.iter().filter(|operation| operation.closed) {
        for (bearer, slug) in refused {
            println!("{} {slug}", operation.name);
            assert_problem(ask(&app, operation, bearer).await, 401, slug).await;
            cells += 1;
        }
    }
    tell(format_args!(
        "who is let in: {cells} cells, {} operations, 5 without a token that holds",
        operations.len()
    ));
    assert!(cells >= 400, "{cells}");
    assert_eq!(app.head().await, head);
}

#[tokio::test]
async fn what_is_for_some_roles_is_for_no_others() {
    let app = App::start().await;
    let operations = operations();
    // What is for few is in places of its own, so that no row is forgotten.
    for operation in &operations {
        let (_, path) = operation.name.split_once(' ').unwrap();
        let few = ["/v1/admin/", "/v1/moderation/", "/v1/facts"];
        if few.iter().any(|place| path.starts_with(place)) {
            let row = GUARDED.iter().any(|(name, _)| *name == operation.name);
            assert!(row, "no row says whom {} is for", operation.name);
        }
    }
    let mut cells = 0;
    for (name, allowed) in GUARDED {
        let operation = operations.iter().find(|operation| operation.name == name);
        let operation = operation.unwrap_or_else(|| panic!("there is no {name}"));
        for role in ROLES {
            let who = app.bearer(app.tenant, "ana", &[role], Duration::from_mins(10));
            let answer = ask(&app, operation, Some(&who.token)).await;
            println!("{name} {role:?}: {}", answer.status());
            if allowed.contains(&role) {
                assert_ne!(answer.status(), 403, "{name} is for {role:?}");
            } else {
                assert_problem(answer, 403, "forbidden").await;
            }
            cells += 1;
        }
    }
    tell(format_args!(
        "what roles may: {cells} cells, {} operations, {} roles",
        GUARDED.len(),
        ROLES.len()
    ));
}

#[tokio::test]
async fn a_key_that_only_reads_changes_nothing() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let key = json!({"name": "a reader", "scopes": ["read"]});
    let key = ana.posts("/v1/api-keys", key).await;
    let (key, head) = (key["key"].as_str().unwrap(), app.head().await);
    let (operations, mut cells) = (operations(), 0);
    let changes = |one: &&Operation| one.closed && one.method != Method::GET;
    for operation in operations.iter().filter(changes) {
        println!("{}", operation.name);
        assert_problem(ask(&app, operation, Some(key)).await, 403, "forbidden").await;
        cells += 1;
    }
    tell(format_args!(
        "what a key that only reads may change: {cells} cells, nothing"
    ));
    assert!(cells >= 40, "{cells}");
    assert_eq!(app.head().await, head);
}

/// A read that says that it waits for a position looks at it, and no other does.
#[tokio::test]
async fn a_forged_position_is_refused_where_one_is_waited_for() {
    let app = App::start().await;
    let ana = app.bearer(app.tenant, "ana", &ROLES, Duration::from_mins(10));
    let document = serde_json::to_value(api::document()).unwrap();
    let mut waits = 0;
    for operation in operations() {
        if operation.method != Method::GET || !operation.closed || operation.is_stream() {
            continue;
        }
        let (_, path) = operation.name.split_once(' ').unwrap();
        let parameters = document["paths"][path]["get"]["parameters"].as_array();
        let mut parameters = parameters.into_iter().flatten();
        let told = parameters.any(|one| one["name"] == "Cinelog-Min-Position");
        let request = ana.request(Method::GET, &operation.path);
        let request = request.header("cinelog-min-position", "forged");
        let answer = request.send().await.unwrap();
        if told {
            assert_problem(answer, 400, "position-invalid").await;
            waits += 1;
        } else {
            assert_ne!(answer.status(), 400, "{}", operation.name);
        }
    }
    assert!(waits > 30, "{waits}");
}

/// Whatever is asked for, as its example says: nothing is a fault of ours, and each answer is one that the document has.
#[tokio::test]
async fn examples_are_answered_as_the_document_says() {
    let app = App::start().await;
    let ana = app.bearer(app.tenant, "ana", &ROLES, Duration::from_mins(10));
    let document = serde_json::to_value(api::document()).unwrap();
    let mut operations = operations();
    // Whoever was erased may do nothing any more.
    operations.sort_by_key(|operation| operation.name == "DELETE /v1/users/me");
    for operation in operations {
        if operation.is_stream() {
            continue;
        }
        let answer = ask(&app, &operation, Some(&ana.token)).await;
        let (path, status) = (operation.name.split_once(' ').unwrap().1, answer.status());
        let known = &document["paths"][path][operation.method.as_str().to_lowercase()]["responses"];
        println!("{} {status}", operation.name);
        assert!(!status.is_server_error(), "{}: {status}", operation.name);
        assert!(
            known.get(status.as_str()).is_some(),
            "{}: {status} is not described",
            operation.name
        );
    }
}
