//! One of everything that is somebody's, and those who have nothing to do with it.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, LONG, User};
use crate::jobs::WAVEFORM;
use crate::matrix::ROLES;
use crate::uploads::{complete, put, render};

/// The smallest part that a bucket takes.
pub(super) const PART: u64 = 5 << 20;

/// In all that only ana may read.
const SECRET: &str = "for nobody else";

/// All that ana can read of what is hers.
const KEPT: &str = "
    /v1/users/me /v1/usage /v1/api-keys /v1/follow-requests /v1/matches /v1/matches/likes /v1/notifications
    /v1/users/me/blocks /v1/users/me/mutes /v1/users/{ana}/followers /v1/users/{ana}/following /v1/assets
    /v1/uploads/{open} /v1/uploads/{file} /v1/assets/{file} /v1/assets/{shown} /v1/jobs/{job} /v1/jobs/{draft}
    /v1/posts/{hush} /v1/posts/{hush}/comments /v1/posts/{hush}/reactions /v1/comments/{whisper}/reactions
    /v1/posts/{talk} /v1/posts/{talk}/comments /v1/posts/{talk}/reactions /v1/comments/{said}/reactions
";

/// Ids by the words that stand for them.
pub(super) type Things = BTreeMap<&'static str, String>;

/// What is ana's, whom she knows, and who asks.
pub(super) struct Stage<'a> {
    pub(super) things: Things,
    /// In none of what others are told.
    pub(super) secrets: Vec<String>,
    pub(super) ana: User<'a>,
    /// Of the same tenant, without any role.
    pub(super) eve: User<'a>,
    /// Of another tenant, with every role.
    pub(super) zoe: User<'a>,
    /// Ana's own account in the other tenant, with every role: so that it is the tenant alone that keeps the two apart.
    pub(super) twin: User<'a>,
    machine: User<'a>,
}

impl<'a> Stage<'a> {
    pub(super) async fn set(app: &'a App) -> Self {
        let second = app.second_tenant().await;
        let (mut ana, mut eve) = (app.user("ana"), app.user("eve"));
        let mut zoe = app.bearer(second, "zoe", &ROLES, LONG);
        named(&mut ana, json!({"name": "Ana", "private": true})).await;
        for user in [&mut eve, &mut zoe] {
            named(user, json!({"name": "Someone"})).await;
        }
        let mut things = Things::from([("ana", ana.id.to_string())]);
        knows(app, &mut ana, &mut things).await;
        uploads(app, &mut ana, &mut things).await;
        says(&mut ana, &mut things).await;
        let key = json!({"name": SECRET, "scopes": ["read"]});
        let key = ana.posts("/v1/api-keys", key).await;
        let mut di = app.user("di");
        di.posts("/v1/posts", json!({"text": "bye"})).await;
        let left = di.does(Method::DELETE, "/v1/users/me", None).await;
        let theirs = zoe.posts("/v1/posts", json!({"text": "elsewhere"})).await;
        things.extend([
            ("key", id(&key)),
            ("left", id(&left)),
            ("theirs", id(&theirs)),
        ]);
        app.level().await;
        let secret = [&things["job"], &things["draft"], &things["hush"]];
        Self {
            secrets: secret
                .map(Clone::clone)
                .into_iter()
                .chain([SECRET.to_owned()])
                .collect(),
            machine: app.with_token(key["key"].as_str().unwrap()),
            twin: app.bearer(second, "ana", &ROLES, LONG),
            things,
            ana,
            eve,
            zoe,
        }
    }

    /// The same words for ids of nothing that ana has.
    pub(super) fn nobodys(&self) -> Things {
        let nobodys = |(word, id): (&&'static str, &String)| match *word {
            "theirs" => ("theirs", id.clone()),
            word => (word, Uuid::from_u128(0xDEAD).to_string()),
        };
        self.things.iter().map(nobodys).collect()
    }

    /// All that ana can read of what is hers, by where she reads it.
    pub(super) async fn kept(&self) -> BTreeMap<&'static str, Value> {
        let mut kept = BTreeMap::new();
        for path in KEPT.split_whitespace() {
            kept.insert(path, self.ana.reads(&filled(path, &self.things)).await);
        }
        kept
    }

    /// Whether ana's machine is still let in.
    pub(super) async fn machine_works(&self) -> bool {
        let asked = self.machine.request(Method::GET, "/v1/users/me");
        asked.send().await.unwrap().status() == StatusCode::OK
    }
}

/// `text` with the ids that its words stand for.
pub(super) fn filled(text: &str, things: &Things) -> String {
    let fill =
        |text: String, (word, id): (&&str, &String)| text.replace(&format!("{{{word}}}"), id);
    things.iter().fold(text.to_owned(), fill)
}

/// Whom ana follows, blocks and mutes, who asks to follow her, and with whom she is matched.
async fn knows<'a>(app: &'a App, ana: &mut User<'a>, things: &mut Things) {
    for name in ["bob", "carl", "dora", "fay", "fred", "gus"] {
        let mut user = app.user(name);
        named(&mut user, json!({"name": name})).await;
        things.insert(name, user.id.to_string());
    }
    for path in ["{bob}/follow", "{carl}/block", "{dora}/mute"] {
        ana.puts(&filled(&format!("/v1/users/{path}"), things))
            .await;
    }
    for name in ["fay", "fred"] {
        app.user(name)
            .puts(&format!("/v1/users/{}/follow", ana.id))
            .await;
    }
    let mut gus = app.user("gus");
    gus.posts("/v1/matches/likes", json!({"user": ana.id}))
        .await;
    ana.posts("/v1/matches/likes", json!({"user": gus.id}))
        .await;
}

/// A file in parts that are awaited, and two assets with an output and a job that waits.
async fn uploads<'a>(app: &'a App, ana: &mut User<'a>, things: &mut Things) {
    let open = file(2 * PART + 9, &"0".repeat(64));
    things.insert("open", id(&ana.posts("/v1/uploads", open).await));
    for (asset, job) in [("file", "job"), ("shown", "draft")] {
        let ticket = file(WAVEFORM.len() as u64, &crate::app::sha256(WAVEFORM));
        let ticket = ana.posts("/v1/uploads", ticket).await;
        assert!(put(app, &ticket, WAVEFORM).await.status().is_success());
        let done: Value = complete(ana, &ticket).await.json().await.unwrap();
        let [fast, proxy] = [0, 1].map(|nth| id(&done["jobs"][nth]));
        render(app, ana, &id(&ticket), &fast, WAVEFORM).await;
        things.extend([(asset, id(&ticket)), (job, proxy)]);
    }
}

/// A post that nobody else may see and one that all may, each with a comment and reactions.
async fn says(ana: &mut User<'_>, things: &mut Things) {
    for (post, comment, asset, text, visibility) in [
        ("hush", "whisper", "file", SECRET, "private"),
        ("talk", "said", "shown", "for all", "public"),
    ] {
        let new = json!({"text": format!("{text} #{post}"), "assets": [things[asset]], "visibility": visibility});
        let new = id(&ana.posts("/v1/posts", new).await);
        let path = format!("/v1/posts/{new}/comments");
        let added = id(&ana.posts(&path, json!({"text": text})).await);
        for liked in [format!("posts/{new}"), format!("comments/{added}")] {
            ana.puts(&format!("/v1/{liked}/reactions/like")).await;
        }
        things.extend([(post, new), (comment, added)]);
    }
}

fn file(bytes: u64, sha256: &str) -> Value {
    json!({"name": format!("{SECRET}.mp4"), "type": "video/mp4", "bytes": bytes, "sha256": sha256})
}

fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap().to_owned()
}

async fn named(user: &mut User<'_>, profile: Value) {
    user.does(Method::PATCH, "/v1/users/me", Some(profile))
        .await;
}
