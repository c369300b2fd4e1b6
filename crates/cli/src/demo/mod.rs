//! Three users go through the whole chain, by the public API only.

mod client;
mod outputs;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use storage::Checksum;

use crate::command::up::Running;
use crate::out::say;
use client::{Client, Told};

/// How long the renditions may take.
const RENDER_LIMIT: Duration = Duration::from_mins(5);
/// How long a read model may take to show what was written.
const SEEN_LIMIT: Duration = Duration::from_secs(30);
const POST: &str = "Un conejo enorme y tres roedores en el bosque #animación";

/// What the demo is about.
pub struct Demo {
    /// The clip's file name.
    pub name: String,
    /// Its bytes.
    pub clip: Vec<u8>,
    /// Where outputs go.
    pub out: PathBuf,
}

/// The users, and what they have made so far.
struct Cast {
    ana: Client,
    beto: Client,
    carla: Client,
}

/// Tells the story to `running`, reports every step, and leaves the outputs.
pub async fn tell(running: &Running, demo: Demo) -> anyhow::Result<()> {
    let began = Instant::now();
    let tenant = running.log.default_tenant().await?;
    let user = |name: &str| Client::new(running.address, &running.secret, tenant, name);
    let cast = Cast {
        ana: user("ana")?,
        beto: user("beto")?,
        carla: user("carla")?,
    };

    say(format_args!(
        "{:<66} {:>8} {:>10}",
        "step", "position", "time"
    ));
    cast.introduce().await?;
    let (asset, job) = cast.upload(&demo).await?;
    let post = cast.publish(&asset).await?;
    cast.meet().await?;
    cast.await_renditions(&asset, &job).await?;
    cast.talk(&post).await?;
    cast.read(&post).await?;

    let shown = cast.ana.get(&format!("/v1/assets/{asset}")).await?;
    outputs::fetch(&cast.ana, &shown, &demo.out).await?;
    caught_up(running).await?;
    facts(running).await?;
    say(format_args!(
        "the whole story took {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn step(told: &Told, what: &str) {
    let position = told
        .position
        .map_or_else(|| "-".to_owned(), |position| position.to_string());
    say(format_args!(
        "{what:<66} {position:>8} {:>7.1} ms",
        told.took.as_secs_f64() * 1000.0
    ));
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no {pointer} in {value}"))
}

impl Cast {
    async fn introduce(&self) -> anyhow::Result<()> {
        for (client, name) in [
            (&self.ana, "Ana"),
            (&self.beto, "Beto"),
            (&self.carla, "Carla"),
        ] {
            let told = client
                .send(
                    "PATCH",
                    "/v1/users/me",
                    json!({"name": name, "language": "es"}),
                )
                .await?;
            step(&told, &format!("{name} registers and says a name"));
        }
        Ok(())
    }

    /// Ana uploads the clip, straight to storage.
    async fn upload(&self, demo: &Demo) -> anyhow::Result<(String, String)> {
        let sha256 = Checksum::of(&demo.clip).to_string();
        let intent = json!({"name": demo.name, "type": "video/mp4", "bytes": demo.clip.len(), "sha256": sha256});
        let ticket = self.ana.send("POST", "/v1/uploads", intent).await?;
        step(
            &ticket,
            &format!(
                "Ana asks to upload {} ({} bytes)",
                demo.name,
                demo.clip.len()
            ),
        );
        let asset = text(&ticket.body, "/id")?.to_owned();
        let told = self.ana.upload(&ticket.body, demo.clip.clone()).await?;
        step(
            &told,
            "Ana puts the bytes straight into storage by the signed URL",
        );
        let done = self
            .ana
            .send("POST", &format!("/v1/uploads/{asset}/complete"), json!({}))
            .await?;
        ensure!(
            done.status == 202,
            "complete answered {} instead of 202",
            done.status
        );
        step(
            &done,
            "Ana completes the upload: 202 with a job, nobody waits",
        );
        Ok((asset, text(&done.body, "/job")?.to_owned()))
    }

    /// A post, and a follow. Others see the post once there is something to look at.
    async fn publish(&self, asset: &str) -> anyhow::Result<String> {
        let told = self
            .ana
            .send(
                "POST",
                "/v1/posts",
                json!({"text": POST, "assets": [asset], "language": "es"}),
            )
            .await?;
        let post = text(&told.body, "/id")?.to_owned();
        step(&told, "Ana publishes a post with it");
        let ana = text(&told.body, "/author")?.to_owned();
        let told = self
            .beto
            .send("PUT", &format!("/v1/users/{ana}/follow"), json!({}))
            .await?;
        step(&told, "Beto follows Ana");
        Ok(post)
    }

    /// A comment, and reactions.
    async fn talk(&self, post: &str) -> anyhow::Result<()> {
        let comment = json!({"text": "¡Qué bien se ve el bosque!"});
        let told = self
            .beto
            .send("POST", &format!("/v1/posts/{post}/comments"), comment)
            .await?;
        step(&told, "Beto comments");
        for (client, name, kind) in [(&self.beto, "Beto", "love"), (&self.carla, "Carla", "like")] {
            let told = client
                .send(
                    "PUT",
                    &format!("/v1/posts/{post}/reactions/{kind}"),
                    json!({}),
                )
                .await?;
            step(&told, &format!("{name} reacts with {kind}"));
        }
        Ok(())
    }

    /// A mutual match.
    async fn meet(&self) -> anyhow::Result<()> {
        let told = self
            .beto
            .send(
                "POST",
                "/v1/matches/likes",
                json!({"user": self.carla.id()}),
            )
            .await?;
        step(&told, "Beto likes Carla");
        let told = self
            .carla
            .send(
                "POST",
                "/v1/matches/likes",
                json!({"user": self.beto.id(), "kind": "super"}),
            )
            .await?;
        ensure!(
            told.body["matched"] == true,
            "the second like made no match: {}",
            told.body
        );
        step(&told, "Carla super-likes Beto: a match, in the same append");
        Ok(())
    }

    /// Waits until the asset is ready, with the running job's progress.
    async fn await_renditions(&self, asset: &str, job: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let style = ProgressStyle::with_template("{msg:<20} [{bar:40}] {percent:>3} %  {elapsed}")?;
        let bar = ProgressBar::new(1000).with_style(style);
        while began.elapsed() < RENDER_LIMIT {
            // A moment ago the job may have been unknown to the read model still.
            if let Ok(shown) = self.ana.get(&format!("/v1/jobs/{job}")).await {
                bar.set_message(shown["stage"].as_str().unwrap_or("waiting").to_owned());
                bar.set_position(thousandths(&shown["done"]));
            }
            let shown = self
                .ana
                .get(&format!("/v1/assets/{asset}"))
                .await
                .unwrap_or_default();
            match shown["state"].as_str() {
                Some("ready") => {
                    bar.finish_and_clear();
                    let what = format!(
                        "{} outputs are rendered and the asset is ready",
                        count(&shown["renditions"])
                    );
                    step(
                        &Told {
                            took: began.elapsed(),
                            ..Told::default()
                        },
                        &what,
                    );
                    return Ok(());
                }
                Some("failed" | "quarantined") => bail!("the asset failed: {}", shown["error"]),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        bail!("the renditions took longer than {RENDER_LIMIT:?}")
    }

    /// Everybody sees what happened.
    async fn read(&self, post: &str) -> anyhow::Result<()> {
        let has_post = |page: &Value| items(page).any(|item| item["id"] == post);
        let told = seen(&self.beto, "/v1/feed", has_post).await?;
        step(&told, "Beto's feed shows the post");
        let shown = items(&told.body)
            .find(|item| item["id"] == post)
            .cloned()
            .unwrap_or_default();
        let (comments, loves) = (
            &shown["counts"]["comments"],
            &shown["counts"]["reactions"]["love"],
        );
        ensure!(
            count(&shown["assets"][0]["renditions"]) > 0,
            "the post shows no renditions: {shown}"
        );
        let counted = |page: &Value| {
            let counts = items(page)
                .find(|item| item["id"] == post)
                .map(|item| item["counts"].clone());
            counts.is_some_and(|c| {
                c["comments"] == 1 && c["reactions"]["love"] == 1 && c["reactions"]["like"] == 1
            })
        };
        seen(&self.beto, "/v1/feed", counted)
            .await
            .with_context(|| format!("{comments} comments, {loves} loves"))?;
        let found = |page: &Value| items(page).any(|item| item["post"]["id"] == post);
        let told = seen(&self.carla, "/v1/search?q=roedor", found).await?;
        step(&told, "Carla finds it: \"roedor\" matches \"roedores\"");
        let matched =
            |page: &Value| items(page).any(|item| item["user"]["id"] == self.beto.id().as_str());
        let told = seen(&self.carla, "/v1/matches", matched).await?;
        step(&told, "Carla's matches show Beto");
        Ok(())
    }
}

/// Reads `path` until it shows what it should.
async fn seen(client: &Client, path: &str, shows: impl Fn(&Value) -> bool) -> anyhow::Result<Told> {
    let began = Instant::now();
    loop {
        let told = client.read(path).await?;
        if shows(&told.body) {
            return Ok(told);
        }
        ensure!(
            began.elapsed() < SEEN_LIMIT,
            "GET {path} does not show it: {}",
            told.body
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn items(page: &Value) -> impl Iterator<Item = &Value> {
    page["items"].as_array().into_iter().flatten()
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000"
)]
fn thousandths(share: &Value) -> u64 {
    (share.as_f64().unwrap_or_default() * 1000.0).clamp(0.0, 1000.0) as u64
}

/// Waits until every read model and the job table have taken in every fact, by way of Kafka where there is one.
async fn caught_up(running: &Running) -> anyhow::Result<()> {
    let pool = running.database.pool(service::db::Role::Api).await?;
    let began = Instant::now();
    loop {
        let lags = events::subscription::lag(&mut *pool.acquire().await?).await?;
        if lags.iter().all(|lag| lag.lanes_behind == 0) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < SEEN_LIMIT,
            "behind after {SEEN_LIMIT:?}: {lags:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many facts of each kind the log holds now.
async fn facts(running: &Running) -> anyhow::Result<()> {
    let pool = running.database.pool(service::db::Role::Api).await?;
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT type, count(*) FROM log.events GROUP BY type ORDER BY min(position)",
    )
    .fetch_all(&pool)
    .await?;
    let head: i64 = sqlx::query_scalar("SELECT COALESCE(max(position), 0) FROM log.events")
        .fetch_one(&pool)
        .await?;
    let total: i64 = rows.iter().map(|(_, count)| count).sum();
    ensure!(total == head, "{total} facts, and positions up to {head}");
    say(format_args!(
        "\nthe log holds {total} facts at positions 1..{head}:"
    ));
    for (fact_type, count) in rows {
        say(format_args!("  {fact_type:<24} {count:>4}"));
    }
    Ok(())
}
