//! The document is made from the code; the one that is checked in must be it.

use std::collections::BTreeSet;

use testing::environment;

use crate::app::App;

#[test]
fn the_generated_document_is_checked_in_as_it_is() {
    let file = environment::root().join("schemas/openapi.json");
    let made = api::document().to_pretty_json().unwrap() + "\n";
    if environment::optional("UPDATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == made,
        "schemas/openapi.json is not what the code says: run `make docs`"
    );
}

#[test]
fn every_operation_is_described_and_says_how_it_fails() {
    let document = serde_json::to_value(api::document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let problem = &document["components"]["responses"]["Problem"]["content"];
    let schema = &problem["application/problem+json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/Problem");
    let (mut operations, mut names) = (0, BTreeSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "two are called {name}");
            assert!(
                operation["summary"].as_str().is_some_and(|s| !s.is_empty()),
                "{method} {path} has no summary"
            );
            for status in ["400", "429", "503"] {
                let failure = &operation["responses"][status]["$ref"];
                assert_eq!(failure, "#/components/responses/Problem", "{method} {path}");
            }
            // Of those that let somebody in, of what is signed, and of ids that are secret, `[{}]`: nothing is needed.
            let lets_in = path.starts_with("/v1/auth/") && path != "/v1/auth/invites";
            let signed = ["/v1/webhooks/", "/storage/"];
            let signed = signed.iter().any(|of| path.starts_with(of));
            let open = lets_in || signed || path == "/v1/erasures/{id}";
            let bearer = operation["security"][0]["bearer"].is_array();
            assert_eq!(bearer, !open, "{method} {path}");
            assert!(operation["security"][0].is_object(), "{method} {path}");
        }
    }
    assert!(operations >= 40, "{operations} operations");
}

#[test]
fn every_body_has_an_example() {
    let document = serde_json::to_value(api::document()).unwrap();
    let (mut bodies, mut without) = (0, vec![]);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let contents = operation["requestBody"]["content"].as_object();
            let mut contents = contents.cloned().unwrap_or_default();
            // Bytes are whatever was promised.
            contents.remove("application/octet-stream");
            for content in contents.values() {
                bodies += 1;
                let pointer = content["schema"]["$ref"].as_str().unwrap_or_default();
                let schema = document.pointer(pointer.trim_start_matches('#'));
                let mut places = [Some(content), schema].into_iter().flatten();
                if !places.any(|place| place["example"].is_object()) {
                    without.push(format!("{method} {path}"));
                }
            }
        }
    }
    assert!(without.is_empty(), "{without:?}");
    assert!(bodies >= 25, "{bodies} bodies");
}

#[test]
fn what_is_one_of_few_is_so_in_the_document() {
    let document = serde_json::to_value(api::document()).unwrap();
    for (path, method, name, words) in [
        ("/v1/feed", "get", "order", 2),
        ("/v1/search", "get", "kind", 3),
        ("/v1/search", "get", "order", 2),
        ("/v1/assets/{id}/waveform", "get", "format", 4),
        ("/v1/posts/{id}/reactions", "get", "kind", 6),
        ("/v1/posts/{id}/reactions/{kind}", "put", "kind", 6),
        ("/v1/comments/{id}/reactions/{kind}", "delete", "kind", 6),
    ] {
        let parameters = document["paths"][path][method]["parameters"].as_array();
        let mut parameters = parameters.unwrap().iter();
        let parameter = parameters.find(|one| one["name"] == name).unwrap();
        let known = parameter["schema"]["enum"].as_array();
        assert_eq!(known.map(Vec::len), Some(words), "{path}: {parameter}");
    }
    for (schema, words) in [
        ("ReactionKind", 6),
        ("Visibility", 4),
        ("Profile", 3),
        ("NoticeName", 8),
    ] {
        let schema = &document["components"]["schemas"][schema];
        let known = schema["enum"].as_array();
        assert_eq!(known.map(Vec::len), Some(words), "{schema}");
    }
}

#[tokio::test]
async fn the_page_that_shows_it_asks_nobody_else() {
    let app = App::start().await;
    let get = async |path: &str| {
        let answer = app
            .http
            .get(format!("{}{path}", app.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer
    };
    let page = get("/docs/").await;
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "{page}"
    );
    // Scripts in the page itself would not run under the policy.
    let scripts: Vec<&str> = page.split("<script").skip(1).collect();
    assert!(
        !scripts.is_empty() && scripts.iter().all(|script| script.contains("src=\"./")),
        "{page}"
    );
    for script in scripts {
        let source = script
            .split("src=\"./")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        get(&format!("/docs/{source}")).await;
    }
    let told = get("/docs/swagger-initializer.js")
        .await
        .text()
        .await
        .unwrap();
    assert!(told.contains("/openapi.json"), "{told}");
    let answer = get("/openapi.json").await;
    let headers = answer.headers();
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(
        headers["content-security-policy"],
        "default-src 'none'; frame-ancestors 'none'"
    );
}

#[tokio::test]
async fn what_strangers_may_have_is_not_made_for_each_of_them() {
    let app = App::start().await;
    for path in ["/docs/swagger-ui-bundle.js", "/openapi.json"] {
        let request = app.http.get(format!("{}{path}", app.url));
        let request = request.header("accept-encoding", "gzip");
        let answer = request.send().await.unwrap();
        // Compressing takes a hundred times as long as sending.
        assert_eq!(answer.headers().get("content-encoding"), None, "{path}");
        assert!(answer.bytes().await.unwrap().len() > 100_000, "{path}");
    }
}
