//! Clients of the API that do not give up: what is not answered for good is asked again under the same key, until it is.
//! In the end the log must hold what was accepted, once, and nothing that was refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use events::id::{TenantId, UserId};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use service::shutdown::Shutdown;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use crate::life::Chance;
use crate::world::World;

/// How long a client asks for one and the same thing.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long it waits for one answer: longer than the API takes to say that it cannot.
const ANSWER: Duration = Duration::from_secs(40);

/// From one time of asking to the next, at the least.
const PAUSE: Duration = Duration::from_millis(20);

/// When the same thing is asked for, a pause apart also after slow answers.
fn times() -> Interval {
    let mut times = interval(PAUSE);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    times
}

/// How often clients were told of which problem.
pub(crate) type Problems = Arc<Mutex<BTreeMap<String, u64>>>;

/// One user's client.
pub(crate) struct Client {
    http: reqwest::Client,
    /// Where the API was last seen.
    base: watch::Receiver<String>,
    token: String,
    tenant: TenantId,
    user: UserId,
    chance: Chance,
    keys: u64,
    accepted: Vec<Accepted>,
    /// Type and stream of every fact that the user must have brought about.
    facts: Vec<(&'static str, String)>,
    commands: i64,
    refused: u64,
    problems: Problems,
}

/// A command that was accepted, to be repeated.
struct Accepted {
    path: String,
    key: String,
    body: Value,
    id: Value,
}

impl Client {
    pub(crate) async fn new(
        world: &mut World,
        name: &str,
        base: watch::Receiver<String>,
        problems: &Problems,
    ) -> Self {
        Self {
            // What runs on this machine is not reached by way of a proxy.
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            base,
            token: world.programs.token(name, "member").await,
            tenant: world.life.tenant(),
            user: UserId::of("cinelog", name),
            chance: Chance(world.life.chance().below(u64::MAX)),
            keys: 0,
            accepted: vec![],
            facts: vec![],
            commands: 0,
            refused: 0,
            problems: Arc::clone(problems),
        }
    }

    /// Asks for one thing after the other; what was begun is brought to its end.
    pub(crate) async fn go_on(&mut self, end: &Shutdown) {
        while !end.is_cancelled() {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let known = (self.accepted.len() as u64).checked_sub(1);
        let before = known.map(|last| usize::try_from(self.chance.below(last + 1)).unwrap());
        match (self.chance.below(10), before) {
            (0, _) => {
                let nowhere = format!("/posts/{}/comments", Uuid::new_v4());
                self.refused(&nowhere, json!({ "text": "¿Hola?" }), "post-not-found")
                    .await;
            }
            (1, _) => {
                let endless = json!({ "text": "x".repeat(5_001) });
                self.refused("/posts", endless, "invalid-field").await;
            }
            (2, Some(before)) => self.repeat(before).await,
            (3, Some(before)) => self.use_again(before).await,
            (4..7, Some(before)) => self.comment(before).await,
            _ => {
                let text = json!({ "text": format!("Hola #{}", self.keys) });
                let post = self.accepted("/posts", text).await;
                self.facts.push(("post.published", format!("post-{post}")));
            }
        }
    }

    /// Comments on an own post that was accepted.
    async fn comment(&mut self, before: usize) {
        let post = match &self.accepted[before] {
            Accepted { path, id, .. } if path == "/posts" => id.as_str().unwrap().to_owned(),
            Accepted { path, .. } => path.split('/').nth(2).unwrap().to_owned(),
        };
        let path = format!("/posts/{post}/comments");
        let comment = self.accepted(&path, json!({ "text": "¡Qué bien!" })).await;
        let stream = format!("comment-{comment}");
        self.facts.push(("comment.added", stream));
    }

    /// Asks once more for what was accepted: it is the same thing.
    async fn repeat(&mut self, before: usize) {
        let Accepted {
            path, key, body, ..
        } = &self.accepted[before];
        let (path, key, body) = (path.clone(), key.clone(), body.clone());
        let (status, told) = self.ask(&path, &key, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {told}");
        assert_eq!(told["id"], self.accepted[before].id);
    }

    /// Asks for another thing under a key that was used.
    async fn use_again(&mut self, before: usize) {
        let Accepted { path, key, .. } = &self.accepted[before];
        let (path, key) = (path.clone(), key.clone());
        let (status, told) = self.ask(&path, &key, &json!({ "text": "otra cosa" })).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{told}");
        assert_eq!(told["type"], "/problems/idempotency-key-reused");
        self.refused += 1;
    }

    async fn accepted(&mut self, path: &str, body: Value) -> String {
        let key = self.next_key();
        let (status, told) = self.ask(path, &key, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {told}");
        let (path, id) = (path.to_owned(), told["id"].clone());
        let text = id.as_str().unwrap().to_owned();
        self.commands += 1;
        self.accepted.push(Accepted {
            path,
            key,
            body,
            id,
        });
        text
    }

    async fn refused(&mut self, path: &str, body: Value, why: &str) {
        let key = self.next_key();
        let (status, told) = self.ask(path, &key, &body).await;
        assert!(status.is_client_error(), "{told}");
        assert_eq!(told["type"], format!("/problems/{why}"));
        self.refused += 1;
    }

    /// Uploads a clip; its asset.
    pub(crate) async fn upload(&mut self, bytes: &[u8], media_type: &str) -> String {
        let ticket = self.ticket(bytes, media_type).await;
        let (mut times, mut told) = (times(), None);
        let stored = timeout(PATIENCE, async {
            loop {
                times.tick().await;
                told = self.put(&ticket, bytes).await;
                match &told {
                    // It came through without our hearing of it, and objects are written once.
                    Some((StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED, _)) => break,
                    Some((status, _)) if status.is_success() => break,
                    _ => {}
                }
            }
        });
        assert!(stored.await.is_ok(), "not stored: {told:?}");
        self.complete(&ticket).await
    }

    /// Permission to upload these bytes.
    pub(crate) async fn ticket(&mut self, bytes: &[u8], media_type: &str) -> Value {
        let sha256 = hex::encode(Sha256::digest(bytes));
        let wanted =
            json!({ "name": "gato", "type": media_type, "bytes": bytes.len(), "sha256": sha256 });
        let key = self.next_key();
        let (status, ticket) = self.ask("/uploads", &key, &wanted).await;
        assert_eq!(status, StatusCode::CREATED, "{ticket}");
        let asset = format!("asset-{}", ticket["id"].as_str().unwrap());
        self.facts.push(("upload.requested", asset));
        self.commands += 1;
        ticket
    }

    /// Sends the bytes as the ticket says, once; what was answered, if anything.
    pub(crate) async fn put(&self, ticket: &Value, bytes: &[u8]) -> Option<(StatusCode, Value)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut request = self.http.put(text(&ticket["url"])).body(bytes.to_vec());
        for (name, value) in ticket["headers"].as_object().unwrap() {
            // The HTTP client sets the length itself.
            if !name.eq_ignore_ascii_case("content-length") {
                request = request.header(name, text(value));
            }
        }
        let answer = request.timeout(ANSWER).send().await.ok()?;
        let status = answer.status();
        let body = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&body).unwrap_or_default()))
    }

    /// Says that the bytes are in storage; the asset.
    pub(crate) async fn complete(&mut self, ticket: &Value) -> String {
        let asset = ticket["id"].as_str().unwrap().to_owned();
        let (path, key) = (format!("/uploads/{asset}/complete"), self.next_key());
        let (status, told) = self.ask(&path, &key, &json!({})).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{told}");
        let stream = format!("asset-{asset}");
        self.facts.push(("upload.completed", stream));
        self.commands += 1;
        asset
    }

    fn next_key(&mut self) -> String {
        self.keys += 1;
        self.keys.to_string()
    }

    /// The answer to a command that says what became of it, however often it has to be asked for.
    async fn ask(&mut self, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
        let mut times = times();
        let answered = timeout(PATIENCE, async {
            loop {
                times.tick().await;
                let request = self.request(Method::POST, path).json(body);
                let request = request.header("idempotency-key", key);
                if let Some(answer) = self.answer(request).await {
                    return answer;
                }
            }
        });
        let answered = answered.await;
        answered.unwrap_or_else(|_| panic!("{path} is not answered"))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/v1{path}", *self.base.borrow());
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// One answer, if there was one that need not be asked for again.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Option<(StatusCode, Value)> {
        let answer = request.timeout(ANSWER).send().await.ok()?;
        let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
        // Cut short: the API was killed.
        let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        if status.is_success() {
            return Some((status, body));
        }
        assert_eq!(kind.unwrap(), "application/problem+json", "{body}");
        let problem = body["type"].as_str().unwrap().to_owned();
        *self.problems.lock().unwrap().entry(problem).or_default() += 1;
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if later.contains(&status) || body["type"] == "/problems/contended" {
            return None;
        }
        assert!(status.is_client_error(), "{body}");
        Some((status, body))
    }

    /// Asserts that the log holds what was accepted, once, and nothing else of this user. How much was accepted and refused.
    pub(crate) async fn is_kept(&self, owner: &PgPool) -> (usize, u64) {
        let found: Vec<(String, String)> = sqlx::query_as(
            "SELECT type, stream_id FROM log.events WHERE tenant = $1 AND meta ->> 'actor' = $2 ORDER BY type, stream_id",
        )
        .bind(self.tenant.0)
        .bind(self.user.to_string())
        .fetch_all(owner)
        .await
        .unwrap();
        let owned = |(kind, stream): &(&str, String)| ((*kind).to_owned(), stream.clone());
        let mut wanted: Vec<_> = self.facts.iter().map(owned).collect();
        // The first one brings it with it.
        if !wanted.is_empty() {
            let first = ("user.registered", format!("user-{}", self.user));
            wanted.push(owned(&first));
        }
        wanted.sort();
        assert_eq!(found, wanted);
        let commands: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM log.commands c JOIN log.events e ON e.position = c.first_position
             WHERE e.tenant = $1 AND e.meta ->> 'actor' = $2",
        )
        .bind(self.tenant.0)
        .bind(self.user.to_string())
        .fetch_one(owner)
        .await
        .unwrap();
        assert_eq!(commands, self.commands, "a row for each accepted command");
        (self.facts.len(), self.refused)
    }
}

/// Asserts that each asset has ended once, as the last of its facts, and has each output once; how many are ready.
pub(crate) async fn assets_have_ended_once(owner: &PgPool, assets: &[String]) -> usize {
    let mut ready = 0;
    for asset in assets {
        let facts: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
            "SELECT type, payload ->> 'profile', payload ->> 'name' FROM log.events
             WHERE stream_id = 'asset-' || $1 ORDER BY position",
        )
        .bind(asset)
        .fetch_all(owner)
        .await
        .unwrap();
        let ends = ["asset.ready", "asset.failed"];
        let (last, before) = facts.split_last().unwrap();
        assert!(ends.contains(&last.0.as_str()), "{facts:?}");
        ready += usize::from(last.0 == "asset.ready");
        let mut once = before.to_vec();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), before.len(), "{facts:?}");
        assert!(
            before.iter().all(|fact| !ends.contains(&fact.0.as_str())),
            "{facts:?}"
        );
    }
    ready
}
