//! `GET /v1/facts`: who may read the log, from where, and how it goes on.

use std::time::Duration;

use api::auth::Role;
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::app::{App, SOON, User, assert_problem};

const LONG: Duration = Duration::from_mins(10);

/// Facts of two tenants, turn by turn.
async fn filled(app: &App) -> (User<'_>, User<'_>) {
    let second = app.second_tenant().await;
    let (mut ana, mut bob) = (app.user("ana"), app.user_of(second, "bob"));
    for n in 0..5 {
        for user in [&mut ana, &mut bob] {
            let text = format!("number {n}");
            let post = json!({"text": text, "visibility": "public"});
            user.posts("/v1/posts", post).await;
        }
    }
    let data = app.bearer(app.tenant, "dana", &[Role::Data], LONG);
    let global = app.bearer(app.tenant, "gus", &[Role::DataGlobal], LONG);
    (data, global)
}

async fn get(user: &User<'_>, path: &str) -> Response {
    user.request(Method::GET, path).send().await.unwrap()
}

/// The answer's facts, and where it says to go on.
async fn lines(user: &User<'_>, path: &str) -> (Vec<Value>, Option<String>) {
    let response = get(user, path).await;
    assert_eq!(response.status(), 200, "{path}");
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let next = response.headers().get("link").map(|link| {
        let link = link.to_str().unwrap().strip_prefix('<').unwrap();
        link.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
    });
    let text = response.text().await.unwrap();
    let facts = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (facts.collect(), next)
}

/// All facts, page by page.
async fn every(user: &User<'_>, path: &str) -> Vec<Value> {
    let (mut facts, mut next) = lines(user, path).await;
    while let Some(path) = next {
        let (more, then) = lines(user, &path).await;
        facts.extend(more);
        next = then;
    }
    facts
}

fn positions(facts: &[Value]) -> Vec<i64> {
    facts
        .iter()
        .map(|fact| fact["position"].as_i64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platforms_data_team_reads_every_fact_once_and_a_tenants_only_its_own() {
    let app = App::start().await;
    let (data, global) = filled(&app).await;
    let head = app.head().await;
    for limit in [1, 3, 1000] {
        let all = every(&global, &format!("/v1/facts?limit={limit}")).await;
        assert_eq!(positions(&all), (1..=head).collect::<Vec<_>>());
        let own = every(&data, &format!("/v1/facts?limit={limit}")).await;
        assert!(!own.is_empty() && own.len() < all.len());
        let of_tenant = |fact: &&Value| fact["tenant"] == app.tenant.to_string();
        let wanted: Vec<_> = all.iter().filter(of_tenant).cloned().collect();
        assert_eq!(own, wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_come_from_any_position_and_of_some_types_with_texts_sealed() {
    let app = App::start().await;
    let (_, global) = filled(&app).await;
    let all = every(&global, "/v1/facts").await;
    let (some, _) = lines(&global, "/v1/facts?from=3&limit=2").await;
    assert_eq!(some, all[2..4]);
    let posts = every(
        &global,
        "/v1/facts?type=post.published,post.deleted&limit=2",
    )
    .await;
    assert_eq!(posts.len(), 10);
    assert!(posts.iter().all(|fact| fact["type"] == "post.published"));
    assert!(!posts[0].to_string().contains("number 0"), "{}", posts[0]);
    let (none, next) = lines(&global, "/v1/facts?from=1000000").await;
    assert_eq!((none.len(), next), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_turned_away_and_what_cannot_be_read_is_a_problem() {
    let app = App::start().await;
    let (data, global) = filled(&app).await;
    for roles in [&[][..], &[Role::Member, Role::Moderator, Role::Operator]] {
        let user = app.bearer(app.tenant, "ana", roles, LONG);
        assert_problem(get(&user, "/v1/facts").await, 403, "forbidden").await;
    }
    for query in [
        "from=0",
        "from=x",
        "limit=0",
        "limit=1001",
        "type=a%20b",
        "type=post.publised",
        "type=",
    ] {
        let response = get(&data, &format!("/v1/facts?{query}")).await;
        assert_problem(response, 422, "invalid-field").await;
    }
    sqlx::query("UPDATE log.log SET floor = 4")
        .execute(&app.owner)
        .await
        .unwrap();
    for user in [&data, &global] {
        let told = assert_problem(get(user, "/v1/facts?from=3").await, 410, "position-too-old");
        let told = told.await["detail"].to_string();
        assert!(told.contains("begins at 4"), "{told}");
        assert_eq!(get(user, "/v1/facts?from=4").await.status(), 200);
        let live = user
            .request(Method::GET, "/v1/facts?from=3")
            .header("accept", "text/event-stream");
        assert_problem(live.send().await.unwrap(), 410, "position-too-old").await;
    }
}

/// Reads events until there are `count`, as (id, data).
async fn events(response: Response, count: usize) -> Vec<(i64, Value)> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut bytes, mut text) = (response.bytes_stream(), String::new());
    let read = async {
        while text.matches("\n\n").count() < count {
            text += std::str::from_utf8(&bytes.next().await.unwrap().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(SOON, read).await.expect("events come");
    let event = |event: &str| {
        let field = |name| {
            event
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
        };
        (
            field("id: ").parse().unwrap(),
            serde_json::from_str(field("data: ")).unwrap(),
        )
    };
    let whole = text
        .split_inclusive("\n\n")
        .filter(|text| text.ends_with("\n\n"));
    whole
        .filter(|text| text.contains("data: "))
        .map(event)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_stream_goes_on_where_it_was_and_ends_with_its_token() {
    let app = App::start().await;
    let (_, global) = filled(&app).await;
    let (all, head) = (every(&global, "/v1/facts").await, app.head().await);
    let live = |user: &User<'_>| {
        user.request(Method::GET, "/v1/facts")
            .header("accept", "text/event-stream")
            .header("last-event-id", (head - 2).to_string())
    };
    let response = live(&global).send().await.unwrap();
    let mut ana = app.user("ana");
    ana.posts("/v1/posts", json!({"text": "new", "visibility": "public"}))
        .await;
    let read = events(response, 3).await;
    let ids: Vec<_> = read.iter().take(3).map(|(id, _)| *id).collect();
    assert_eq!(ids, [head - 1, head, head + 1]);
    assert_eq!(read[1].1, all[usize::try_from(head).unwrap() - 1]);

    let short = app.bearer(
        app.tenant,
        "gus",
        &[Role::DataGlobal],
        Duration::from_secs(2),
    );
    let response = live(&short).send().await.unwrap();
    let ended = tokio::time::timeout(SOON, response.bytes()).await;
    ended.expect("it ends with the token").unwrap();
}

#[tokio::test]
async fn live_streams_of_facts_count_as_live_streams() {
    let app = App::start().await;
    let (_, global) = filled(&app).await;
    let live = || {
        global
            .request(Method::GET, "/v1/facts")
            .header("accept", "text/event-stream")
            .send()
    };
    let mut streams = vec![];
    for _ in 0..8 {
        let stream = live().await.unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    assert_problem(live().await.unwrap(), 503, "overloaded").await;
}
