//! README's walk with curl, as a reader would paste it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Deserializer, Value, json};
use testing::process::{Child, Finished};

use crate::pipeline::folder;
use crate::program::{alone, without_services};
use crate::up::up;

const LIMIT: Duration = Duration::from_mins(3);

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What README says to paste, after the line that starts Cinelog.
fn walk() -> String {
    let readme = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    let (_, section) = readme.split_once("\n## A walk with curl\n").unwrap();
    let block = section.split("```").nth(1).unwrap();
    let (start, walk) = block.trim_start().split_once('\n').unwrap();
    assert!(start.starts_with("make up "), "{start}");
    walk.to_owned()
}

async fn walked(base: &str, data: &str) -> Finished {
    let mut bash = without_services("bash");
    // A shell that is not told to go on stops where a step fails.
    bash.args(["-euo", "pipefail", "-c", &walk()])
        .current_dir(ROOT)
        .envs([("BASE", base), ("DATA", data), ("NO_PROXY", "127.0.0.1")]);
    Child::spawn(bash).finish(LIMIT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readmes_walk_uploads_posts_and_finds() {
    let folder = folder();
    let data = folder.path().join("data");
    let (running, base) = up(&data).await;

    let walked = walked(&base, data.to_str().unwrap()).await;
    assert!(walked.status.success(), "{walked:?}");
    let statuses = walked.stderr.lines().filter_map(|line| {
        let (_, status) = line.split_once("HTTP ")?;
        Some(status)
    });
    let statuses: Vec<_> = statuses.collect();
    assert_eq!(statuses, ["201", "202", "200", "200", "200", "200"]);

    let shown = Deserializer::from_str(&walked.stdout).into_iter();
    let shown: Vec<Value> = shown.collect::<Result<_, _>>().unwrap();
    let [upload, completed, progress @ .., asset, feed, found] = &shown[..] else {
        panic!("{shown:?}");
    };
    let id = &upload["id"];
    assert_eq!(&completed["asset"], id);
    let last = progress.last().unwrap();
    assert_eq!(last[0], "ready", "{progress:?}");
    assert_eq!((&asset["id"], &asset["state"]), (id, &json!("ready")));
    let renditions = asset["renditions"].as_array().unwrap();
    assert!(
        renditions.iter().any(|made| made["name"] == "proxy.mp4"),
        "{renditions:?}"
    );
    for post in [&feed["items"][0], &found["items"][0]["post"]] {
        assert_eq!(post["text"], "A rabbit wakes up", "{shown:?}");
        assert_eq!(&post["assets"][0]["id"], id, "{post}");
    }
    refused(&base, data.to_str().unwrap()).await;
    running.signal(Signal::TERM);
    let ended = running.finish(LIMIT).await;
    assert!(ended.status.success());
    told(&ended.stderr, completed);
}

/// She who walked asks for what cannot be.
async fn refused(base: &str, data: &str) {
    let token = alone(&["token", "--data", data, "--user", "ada"], &[]);
    let token = token.finish(LIMIT).await.stdout;
    let posts = reqwest::Client::new().post(format!("{base}/v1/posts"));
    let posts = posts.bearer_auth(token.trim()).json(&json!({}));
    assert_eq!(posts.send().await.unwrap().status(), 422);
}

/// The access log names who completed the upload, and the job; and says nothing of what they said.
fn told(log: &str, completed: &Value) {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let lines: Vec<Value> = lines.collect();
    let of_route = |line: &&Value| line["route"] == "/v1/uploads/{id}/complete";
    let answered = lines.iter().find(of_route).expect(log);
    assert_eq!(answered["job_id"], completed["job"]);
    assert_eq!(answered["status"], 202);
    assert!(
        answered["user"]
            .as_str()
            .unwrap()
            .parse::<uuid::Uuid>()
            .is_ok()
    );
    assert!(answered["span"]["request_id"].is_string(), "{answered}");
    let refused = lines.iter().find(|line| line["status"] == 422);
    let refused = refused.expect("who was refused");
    assert_eq!(refused["user"], answered["user"]);
    assert!(!log.contains("rabbit"), "{log}");
}
