//! What the tables of who sees what are about: in each situation an author, and a post that things happen to.

use std::collections::{BTreeMap, BTreeSet};

use api::auth::Role;
use events::decide;
use events::decide::asset::AssetState;
use events::decide::user::UserState;
use events::fact::asset::{MediaError, RenditionFailed};
use events::id::{AssetId, CommandId, JobId, StreamKey};
use events::store::{Command, Emit, Streams};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use service::db;

use crate::app::{App, LONG, User};
use crate::uploads::{complete, file, put, render};

const CLIP: &[u8] = b"not really a clip";

/// Those who look, and what they and each author do: before they talk, and after it.
pub(super) const LOOKERS: [(&str, &str, &str); 16] = [
    ("author", "", ""),
    ("stranger", "", ""),
    ("asker", "ask", ""),
    ("follower", "follow", ""),
    ("followed", "followed", ""),
    ("mutual", "follow followed", ""),
    ("muter", "follow followed", "mute"),
    ("muted", "follow followed", "muted"),
    ("matched", "", "like"),
    ("blocked", "follow followed", "blocked"),
    ("parted", "", "like blocked"),
    ("blocker", "follow followed", "block"),
    ("stopped", "follow followed", ""),
    ("moderator", "", ""),
    ("outsider", "", ""),
    ("nobody", "", ""),
];

/// Situations whose author lets followers in one by one.
pub(super) const PRIVATE: [&str; 2] = ["closed", "inner"];

/// Situations in which others never saw the post.
const UNSEEN: [&str; 2] = ["waiting", "quarantined"];

/// A situation.
pub(super) struct Scene<'a> {
    pub(super) what: &'static str,
    pub(super) author: User<'a>,
    pub(super) post: String,
    /// None of a post without one.
    pub(super) asset: String,
    pub(super) latitude: usize,
    /// The job that quarantines the asset.
    job: String,
    /// The author's comment on the post of somebody else.
    comment: String,
}

/// All situations.
pub(super) struct Stage<'a> {
    pub(super) app: &'a App,
    pub(super) scenes: BTreeMap<&'static str, Scene<'a>>,
    /// Somebody else, whom all know and who knows all authors.
    pub(super) other: User<'a>,
    pub(super) other_post: String,
    outsider: User<'a>,
}

impl<'a> Stage<'a> {
    /// Everything is there and public, and what is between people has happened.
    pub(super) async fn set(app: &'a App, situations: &BTreeSet<&'static str>) -> Self {
        let (mut other, mut outsider) = (
            app.user("other"),
            app.user_of(app.second_tenant().await, "mutual"),
        );
        let post = other.posts("/v1/posts", json!({"text": "Hola"})).await;
        named(&mut outsider, json!({"name": "Ana"})).await;
        for (who, ..) in LOOKERS.iter().filter(|(who, ..)| is_here(who)) {
            let follow = format!("/v1/users/{}/follow", other.id);
            app.user(who).puts(&follow).await;
        }
        let mut stage = Self {
            app,
            scenes: BTreeMap::new(),
            other,
            other_post: text(&post["id"]),
            outsider,
        };
        let scenes = situations.iter().enumerate();
        let scenes = scenes.map(|(latitude, what)| stage.begin(what, latitude));
        let scenes = join_all(scenes).await.into_iter();
        stage.scenes = scenes.map(|scene| (scene.what, scene)).collect();
        app.level().await;
        stage
    }

    /// What the situations are called after happens.
    pub(super) async fn settle(&self) {
        join_all(self.scenes.values().map(|scene| self.befall(scene))).await;
        let stopped = json!({"user": self.app.user("stopped").id, "reason": "spam"});
        let mut moderator = self.moderator();
        moderator.posts("/v1/moderation/suspend", stopped).await;
        self.app.level().await;
    }

    /// The token of someone who looks.
    pub(super) fn token(&self, who: &str, scene: &Scene<'_>) -> Option<String> {
        match who {
            "nobody" => None,
            "author" => Some(scene.author.token.clone()),
            "outsider" => Some(self.outsider.token.clone()),
            "moderator" => Some(self.moderator().token),
            _ => Some(self.app.user(who).token),
        }
    }

    fn moderator(&self) -> User<'a> {
        let (tenant, roles) = (self.app.tenant, [Role::Moderator]);
        self.app.bearer(tenant, "moderator", &roles, LONG)
    }

    async fn begin(&self, what: &'static str, latitude: usize) -> Scene<'a> {
        let mut author = self.app.user(what);
        let private = PRIVATE.contains(&what);
        let profile = json!({"name": format!("{what} Ana"), "language": "en", "private": private});
        named(&mut author, profile).await;
        let (asset, job) = self.upload(what, &mut author).await;
        let assets: Vec<&str> = Some(&*asset)
            .filter(|_| what != "erased")
            .into_iter()
            .collect();
        let post = json!({"text": format!("{what} #{what}"), "language": "en", "assets": assets,
            "location": {"latitude": latitude, "longitude": 0}});
        let post = text(&author.posts("/v1/posts", post).await["id"]);
        say(&mut author, &post, None).await;
        let comment = say(&mut author, &self.other_post, None).await;
        let like = format!("/v1/posts/{}/reactions/like", self.other_post);
        author.puts(&like).await;
        let scene = Scene {
            what,
            author,
            post,
            asset,
            latitude,
            job,
            comment,
        };
        self.follow(&scene, &self.other).await;
        for tie in LOOKERS.iter().filter(|(who, ..)| is_here(who)) {
            Box::pin(self.meet(&scene, *tie)).await;
        }
        scene
    }

    /// An asset, of which there is something to look at unless nobody is to see it, and its job that is not done.
    async fn upload(&self, what: &str, author: &mut User<'a>) -> (String, String) {
        let ticket = author.posts("/v1/uploads", file(CLIP)).await;
        let asset = text(&ticket["id"]);
        let stored = put(self.app, &ticket, CLIP).await;
        assert!(stored.status().is_success());
        let done: Value = complete(author, &ticket).await.json().await.unwrap();
        let [fast, proxy] = [0, 1].map(|one| text(&done["jobs"][one]["id"]));
        if !UNSEEN.contains(&what) {
            render(self.app, author, &asset, &fast, CLIP).await;
        }
        (asset, proxy)
    }

    async fn follow(&self, scene: &Scene<'a>, user: &User<'a>) {
        let mut user = user.clone();
        let follow = format!("/v1/users/{}/follow", scene.author.id);
        user.puts(&follow).await;
        if PRIVATE.contains(&scene.what) {
            let request = format!("/v1/follow-requests/{}", user.id);
            scene.author.clone().puts(&request).await;
        }
    }

    /// What happens between an author and someone who looks.
    async fn meet(&self, scene: &Scene<'a>, (who, before, after): (&str, &str, &str)) {
        let (mut author, mut user) = (scene.author.clone(), self.app.user(who));
        let (of_author, of_user) = [author.id, user.id]
            .map(|id| format!("/v1/users/{id}"))
            .into();
        for step in before.split_whitespace() {
            match step {
                "follow" => self.follow(scene, &user).await,
                "followed" => drop(author.puts(&format!("{of_user}/follow")).await),
                "ask" if PRIVATE.contains(&scene.what) => {
                    user.puts(&format!("{of_author}/follow")).await;
                }
                _ => {}
            }
        }
        if !UNSEEN.contains(&scene.what) {
            let comment = say(&mut user, &scene.post, None).await;
            say(&mut author, &scene.post, Some(&comment)).await;
        }
        let like = json!({"user": user.id, "kind": "super"});
        author.posts("/v1/matches/likes", like).await;
        for step in after.split_whitespace() {
            match step {
                "mute" => drop(user.puts(&format!("{of_author}/mute")).await),
                "muted" => drop(author.puts(&format!("{of_user}/mute")).await),
                "block" => drop(user.puts(&format!("{of_author}/block")).await),
                "blocked" => drop(author.puts(&format!("{of_user}/block")).await),
                _ => {
                    let like = json!({"user": author.id});
                    user.posts("/v1/matches/likes", like).await;
                }
            }
        }
    }

    async fn befall(&self, scene: &Scene<'a>) {
        let (mut author, mut moderator) = (scene.author.clone(), self.moderator());
        let post = format!("/v1/posts/{}", scene.post);
        match scene.what {
            what @ ("followers" | "mutuals" | "private" | "inner") => {
                let visibility = if what == "inner" { "followers" } else { what };
                let change = json!({"visibility": visibility});
                author.does(Method::PATCH, &post, Some(change)).await;
            }
            "hidden" => {
                let hide = json!({"post": scene.post, "reason": "spam"});
                moderator.posts("/v1/moderation/hide", hide).await;
            }
            "hushed" => {
                let hide = json!({"comment": scene.comment, "reason": "spam"});
                moderator.posts("/v1/moderation/hide", hide).await;
            }
            "suspended" => {
                let suspend = json!({"user": author.id, "reason": "spam"});
                moderator.posts("/v1/moderation/suspend", suspend).await;
            }
            "deleted" => author.deletes(&post).await,
            "lost" => author.deletes(&format!("/v1/assets/{}", scene.asset)).await,
            "half" | "quarantined" => self.quarantine(scene).await,
            "erased" => self.erase(scene).await,
            _ => {}
        }
    }

    /// What a transcoder does with what killed it twice.
    async fn quarantine(&self, scene: &Scene<'a>) {
        let asset = AssetId(scene.asset.parse().unwrap());
        let failed = RenditionFailed {
            asset,
            job: JobId(scene.job.parse().unwrap()),
            profile: "proxy720@1".to_owned(),
            name: None,
            error: MediaError {
                kind: "died".to_owned(),
                message: "killed by SIGSEGV".to_owned(),
                retryable: false,
            },
            cpu_ms: None,
        };
        let quarantine = |state: &AssetState| decide::asset::quarantine(state, failed.clone());
        self.append(scene, &StreamKey::asset(asset), quarantine)
            .await;
    }

    /// What an operator does with who wants to be forgotten.
    async fn erase(&self, scene: &Scene<'a>) {
        let person = (self.app.tenant, scene.author.id);
        sqlx::query("SELECT log.erase_person($1, $2)")
            .bind(person.0)
            .bind(person.1)
            .execute(&self.app.owner)
            .await
            .unwrap();
        let erase = |state: &UserState| decide::user::erase(state, person.1);
        self.append(scene, &StreamKey::user(person.1), erase).await;
        let projector = self.app.database.pool(db::Role::Projector).await;
        let config = projectors::config::Config::default();
        let purge = projectors::erase::purge(&projector, &config, person);
        purge.await.unwrap();
    }

    async fn append<S: decide::State>(
        &self,
        scene: &Scene<'a>,
        stream: &StreamKey,
        decide: impl Fn(&S) -> decide::Decision + Send + Sync,
    ) {
        let command = Command {
            id: CommandId {
                tenant: self.app.tenant,
                actor: scene.author.id,
                route: "test".to_owned(),
                key: scene.what.to_owned(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let decide = |streams: &Streams| Ok(Emit::all(stream, decide(&streams.get(stream))?));
        let done = self
            .app
            .log
            .execute(&command, std::slice::from_ref(stream), decide);
        done.await.unwrap();
    }
}

/// Whether someone is of the default tenant, and themselves in every situation.
fn is_here(who: &str) -> bool {
    !["author", "outsider", "nobody"].contains(&who)
}

fn text(id: &Value) -> String {
    id.as_str().unwrap().to_owned()
}

async fn named(user: &mut User<'_>, profile: Value) {
    user.does(Method::PATCH, "/v1/users/me", Some(profile))
        .await;
}

/// Comments on a post, perhaps in answer to a comment; the comment's id.
async fn say(user: &mut User<'_>, post: &str, parent: Option<&str>) -> String {
    let path = format!("/v1/posts/{post}/comments");
    let comment = json!({"text": "Hola", "parent": parent});
    text(&user.posts(&path, comment).await["id"])
}
