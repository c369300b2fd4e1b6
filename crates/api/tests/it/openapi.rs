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
            let failure = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(
                failure["schema"]["$ref"], "#/components/schemas/Problem",
                "{method} {path}"
            );
            // Of those that let somebody in, of notices, which are signed, and of ids that are secret, `[{}]`: nothing is needed.
            let lets_in = path.starts_with("/v1/auth/") && path != "/v1/auth/invites";
            let open = lets_in || path.starts_with("/v1/webhooks/") || path == "/v1/erasures/{id}";
            let bearer = operation["security"][0]["bearer"].is_array();
            assert_eq!(bearer, !open, "{method} {path}");
            assert!(operation["security"][0].is_object(), "{method} {path}");
        }
    }
    assert!(operations >= 40, "{operations} operations");
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
