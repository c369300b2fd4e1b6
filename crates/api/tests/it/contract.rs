//! The OpenAPI document held against a running API by schemathesis, a program of others: it asks for what the document
//! allows and for much that it does not. No answer may be a fault of ours, and each must be one that the document has: by
//! its status, its content type, its headers and its body.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::environment;
use testing::process::{Child, Finished};
use testing::report::tell;
use uuid::Uuid;

use crate::app::{App, User};
use crate::jobs::WAVEFORM;
use crate::matrix::ROLES;
use crate::uploads::{complete, file, put, render};

/// What schemathesis would look at and cannot: that whatever fits the document is accepted. Its ids are of nothing that there
/// is, its codes are in no mail, and what depends on state is refused as often as not.
const NOT_CHECKED: &str = "positive_data_acceptance";

/// Streams do not end, so nobody can read them to their end; live.rs reads them.
const STREAMS: &str = "/live$";
/// Whoever suspends themselves is refused everything from then on; moderation.rs asks for it.
const SUSPEND: &str = "/v1/moderation/suspend";
/// So is whoever leaves; forgotten.rs does.
const LEAVE: &str = "delete_users_me";

/// Things that there are, by what paths call them: one to look at, and one to take away.
struct Things(Vec<(&'static str, [String; 2])>);

fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap().to_owned()
}

impl Things {
    /// Two users besides ana, what all of them said, and ana's files and keys.
    async fn of<'a>(app: &'a App, ana: &mut User<'a>) -> Self {
        let name = json!({"name": "Ana", "private": true});
        ana.does(Method::PATCH, "/v1/users/me", Some(name)).await;
        let [mut bo, mut cy] = ["bo", "cy"].map(|name| app.user(name));
        let users = [&bo, &cy].map(|user| user.id.to_string());
        let (mine, gone) = (said(ana).await, said(ana).await);
        let (his, hers) = (said(&mut bo).await, said(&mut cy).await);
        for who in [&mut bo, &mut cy] {
            who.puts(&format!("/v1/users/{}/follow", ana.id)).await;
            ana.knows(who);
        }
        let (first, second) = (uploaded(app, ana).await, uploaded(app, ana).await);
        let mut waiting = async || id(&ana.posts("/v1/uploads", file(b"never sent")).await);
        let uploads = [waiting().await, waiting().await];
        let key = json!({"name": "a machine", "scopes": ["read"]});
        let mut di = app.user("di");
        di.posts("/v1/posts", json!({"text": "bye"})).await;
        let left = id(&di.does(Method::DELETE, "/v1/users/me", None).await);
        let mut key = async || id(&ana.posts("/v1/api-keys", key.clone()).await);
        Self(vec![
            ("users", users.clone()),
            ("follow-requests", users.clone()),
            ("matches", users),
            ("posts", [mine.0, gone.0]),
            ("comments", [mine.1, gone.1]),
            // Nobody reports themselves.
            ("posts/reports", [his.0, hers.0]),
            ("comments/reports", [his.1, hers.1]),
            ("assets", [first.0, second.0]),
            ("jobs", [first.1, second.1]),
            ("uploads", uploads),
            ("api-keys", [key().await, key().await]),
            ("erasures", [left.clone(), left]),
        ])
    }

    /// What a path may name in the place of its `{id}`.
    fn ids(&self, method: &str, path: &str) -> [String; 2] {
        let noun = path.trim_start_matches("/v1/").replace("/{id}", "");
        let noun = match noun.split_once('/') {
            Some((noun, rest)) if rest != "reports" => noun,
            _ => &noun,
        };
        let found = self.0.iter().find(|(known, _)| *known == noun);
        let (_, [kept, taken]) = found.unwrap_or_else(|| panic!("what is {{id}} in {path}?"));
        let takes =
            method == "delete" || ["/block", "/cancel"].iter().any(|end| path.ends_with(end));
        let id = if takes { taken } else { kept };
        [id.clone(), Uuid::from_u128(0xDEAD).to_string()]
    }
}

/// A post, and a comment on it.
async fn said(who: &mut User<'_>) -> (String, String) {
    let post = id(&who
        .posts("/v1/posts", json!({"text": "El #gato", "place": "Cádiz"}))
        .await);
    let path = format!("/v1/posts/{post}/comments");
    let comment = who.posts(&path, json!({"text": "¡Qué bien!"})).await;
    (post, id(&comment))
}

/// An asset with a waveform, and the job that it waits for.
async fn uploaded(app: &App, ana: &mut User<'_>) -> (String, String) {
    let ticket = ana.posts("/v1/uploads", file(WAVEFORM)).await;
    assert!(put(app, &ticket, WAVEFORM).await.status().is_success());
    let done: Value = complete(ana, &ticket).await.json().await.unwrap();
    let [fast, proxy] = [0, 1].map(|nth| id(&done["jobs"][nth]));
    render(app, ana, &id(&ticket), &fast, WAVEFORM).await;
    (id(&ticket), proxy)
}

/// The document as schemathesis is to take it.
fn document(things: &Things) -> Value {
    let mut document = serde_json::to_value(api::document()).unwrap();
    for (path, item) in document["paths"].as_object_mut().unwrap() {
        for (method, operation) in item.as_object_mut().unwrap() {
            let Some(Value::Array(parameters)) = operation.get_mut("parameters") else {
                continue;
            };
            // Nobody guesses what we sign; bad_input.rs sends what we did not.
            parameters.retain(|parameter| {
                !["cursor", "Cinelog-Min-Position"].contains(&parameter["name"].as_str().unwrap())
            });
            for parameter in parameters {
                parameter["schema"]["enum"] = match parameter["name"].as_str().unwrap() {
                    "id" => json!(things.ids(method, path)),
                    "name" => json!(["waveform.dat", "proxy.mp4"]),
                    "format" => json!(["dat", "wavesurfer"]),
                    _ => continue,
                };
            }
        }
    }
    document
}

/// Runs schemathesis over the document. The same seed asks for the same things.
async fn ask(app: &App, document: &Value, examples: u32, more: &[&str]) -> Finished {
    let program = environment::root().join(".cinelog/python/bin/schemathesis");
    assert!(
        program.exists(),
        "{} is not there: run ops/dev/setup data",
        program.display()
    );
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("openapi.json"), document.to_string()).unwrap();
    let long = environment::optional("LONG").is_some();
    let examples = if long { 20 * examples } else { examples }.to_string();
    let mut command = tokio::process::Command::new(program);
    // What it keeps between runs would make the next one another.
    command.current_dir(folder.path());
    command.args(["--no-color", "run", "openapi.json", "--url", &app.url]);
    let fixed = "--seed 7 --workers 1 --generation-database none --continue-on-failure --request-timeout 10";
    command
        .args(fixed.split(' '))
        .args(["--max-examples", &examples]);
    command.args([
        "--exclude-checks",
        NOT_CHECKED,
        "--exclude-path-regex",
        STREAMS,
    ]);
    command.args(["--exclude-path", SUSPEND, "--exclude-operation-id", LEAVE]);
    command.args(more);
    let limit = Duration::from_mins(if long { 60 } else { 5 });
    Child::spawn(command).finish(limit).await
}

/// An API that takes notices of all kinds, and sends mails.
async fn told_by_storage(mails: &TempDir) -> App {
    App::start_with(&[
        "--storage-notice-secret",
        "nobody else knows it",
        "--storage-notice-topic",
        "arn:aws:sns:eu-west-1:123456789012:uploads",
        "--mail",
        mails.path().to_str().unwrap(),
    ])
    .await
}

/// Asserts that nothing was found; in how many cases.
#[track_caller]
fn held(told: &Finished) -> u64 {
    assert!(told.status.success(), "{}\n{}", told.stdout, told.stderr);
    let cases = told.stdout.lines().find_map(|line| {
        let (count, _) = line.trim().split_once(" generated, ")?;
        count.parse().ok()
    });
    cases.unwrap_or_else(|| panic!("how many cases? {}", told.stdout))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_do_everything_is_answered_as_the_document_says() {
    let mails = TempDir::new().unwrap();
    let app = told_by_storage(&mails).await;
    let mut ana = app.bearer(app.tenant, "ana", &ROLES, Duration::from_hours(2));
    let things = Things::of(&app, &mut ana).await;
    let token = format!("Authorization: Bearer {}", ana.token);
    let told = ask(&app, &document(&things), 16, &["--header", &token]).await;
    let cases = held(&told);
    println!("{}", told.stdout);
    tell(format_args!(
        "schemathesis: {cases} cases of who may do everything"
    ));
    assert!(cases > 2_500, "{cases} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_answered_as_the_document_says() {
    let app = App::start().await;
    let mut ana = app.bearer(app.tenant, "ana", &[], Duration::from_hours(2));
    let things = Things::of(&app, &mut ana).await;
    let token = format!("Authorization: Bearer {}", ana.token);
    let more = ["--header", &*token, "--phases", "examples,fuzzing"];
    let told = ask(&app, &document(&things), 4, &more).await;
    let cases = held(&told);
    println!("{}", told.stdout);
    tell(format_args!(
        "schemathesis: {cases} cases of who is a member"
    ));
    assert!(cases > 300, "{cases} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_of_themselves_is_answered_as_the_document_says() {
    let mails = TempDir::new().unwrap();
    let app = told_by_storage(&mails).await;
    let mut ana = app.user("ana");
    let things = Things::of(&app, &mut ana).await;
    let told = ask(
        &app,
        &document(&things),
        4,
        &["--phases", "examples,fuzzing"],
    )
    .await;
    let cases = held(&told);
    println!("{}", told.stdout);
    tell(format_args!(
        "schemathesis: {cases} cases of who says nothing of themselves"
    ));
    assert!(cases > 200, "{cases} cases");
}
