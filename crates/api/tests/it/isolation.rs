//! Nobody reads or changes what is not theirs, and a refusal does not say whether it is there.

use events::id::Position;
use events::store::{Filter, Limits, LogError, bounds, page};
use reqwest::Method;
use serde_json::json;
use service::db::{Role, TenantTx};
use testing::report::tell;
use uuid::Uuid;

use crate::app::{App, User, assert_problem, sha256};

async fn upload(user: &mut User<'_>) -> String {
    let file = json!({"name": "a.mp4", "type": "video/mp4", "bytes": 3, "sha256": sha256(b"abc")});
    user.posts("/v1/uploads", file).await["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_post_cannot_carry_anothers_asset() {
    let app = App::start().await;
    let tenant = app.second_tenant().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    // The same person in another tenant.
    let mut elsewhere = app.user_of(tenant, "ana");
    let (of_bo, of_elsewhere) = (upload(&mut bo).await, upload(&mut elsewhere).await);
    let mine = upload(&mut ana).await;
    let head = app.head().await;
    for asset in [&of_bo, &of_elsewhere, &Uuid::from_u128(9).to_string()] {
        let request = ana
            .request(Method::POST, "/v1/posts")
            .json(&json!({"text": "mine?", "assets": [mine, asset]}));
        assert_problem(request.send().await.unwrap(), 404, "asset-not-found").await;
    }
    assert_eq!(app.head().await, head);
}

/// Requests about someone's things, each a line: method, path, what is not there. `{a}`, `{p}`, `{c}` and `{u}` stand for
/// the asset, the post, the comment on it and their owner.
const FORBIDDEN_FRUIT: &str = "
    GET    /v1/uploads/{a}                        upload
    DELETE /v1/uploads/{a}                        upload
    POST   /v1/uploads/{a}/complete               upload
    GET    /v1/assets/{a}                         asset
    DELETE /v1/assets/{a}                         asset
    POST   /v1/assets/{a}/renditions              asset
    GET    /v1/assets/{a}/waveform?format=wavesurfer rendition
    GET    /v1/assets/{a}/live                    asset
    GET    /v1/assets/{a}/renditions/proxy.mp4    rendition
    GET    /v1/posts/{p}                          post
    PATCH  /v1/posts/{p}                          post
    DELETE /v1/posts/{p}                          post
    GET    /v1/posts/{p}/comments                 post
    POST   /v1/posts/{p}/comments                 post
    PATCH  /v1/comments/{c}                       comment
    DELETE /v1/comments/{c}                       comment
    POST   /v1/posts/{p}/reports                  post
    POST   /v1/comments/{c}/reports               comment
    PUT    /v1/posts/{p}/reactions/like           post
    PUT    /v1/comments/{c}/reactions/like        comment
    GET    /v1/posts/{p}/reactions                post
    GET    /v1/users/{u}                          user
    GET    /v1/users/{u}/posts                    user
    GET    /v1/users/{u}/followers?mutual=true    user
    PUT    /v1/users/{u}/follow                   user
    PUT    /v1/users/{u}/block                    user
    PUT    /v1/users/{u}/mute                     user
";

#[tokio::test]
async fn another_tenant_sees_and_changes_nothing() {
    let app = App::start().await;
    let mut stranger = app.user_of(app.second_tenant().await, "zoe");
    let mut ana = app.user("ana");
    let asset = upload(&mut ana).await;
    let post = ana.posts("/v1/posts", json!({"text": "Hola #hola"})).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let comment = ana
        .posts(&format!("/v1/posts/{post}/comments"), json!({"text": "yo"}))
        .await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // So that the read models have surely seen it, and the stranger is someone.
    ana.reads(&format!("/v1/posts/{post}/comments")).await;
    stranger
        .does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Zoe"})))
        .await;
    let head = app.head().await;
    for line in FORBIDDEN_FRUIT.trim().lines() {
        let [method, path, thing] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let path = path
            .replace("{a}", &asset)
            .replace("{p}", &post)
            .replace("{c}", &comment);
        let path = path.replace("{u}", &ana.id.to_string());
        let mut request = stranger.request(method.parse().unwrap(), &path);
        if method == "PATCH" || path.ends_with("/comments") && method == "POST" {
            request = request.json(&json!({"text": "mine"}));
        } else if method == "POST" && path.ends_with("/renditions") {
            request = request.json(&json!({"profile": "edit@1"}));
        } else if path.ends_with("/reports") {
            request = request.json(&json!({"reason": "spam"}));
        }
        println!("{line}");
        assert_problem(
            request.send().await.unwrap(),
            404,
            &format!("{thing}-not-found"),
        )
        .await;
    }
    for list in [
        "/v1/feed",
        "/v1/assets",
        "/v1/search?q=hola",
        "/v1/matches/candidates",
        "/v1/suggestions",
    ] {
        assert_eq!(stranger.reads(list).await["items"], json!([]), "{list}");
    }
    assert_eq!(app.head().await, head);
}

#[tokio::test]
async fn a_post_is_seen_by_those_it_is_for() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let post = ana
        .posts(
            "/v1/posts",
            json!({"text": "solo para amigos", "visibility": "followers"}),
        )
        .await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    ana.reads(&path).await;
    assert_problem(
        bo.request(Method::GET, &path).send().await.unwrap(),
        404,
        "post-not-found",
    )
    .await;
    let head = app.head().await;
    let comment = bo
        .request(Method::POST, &format!("{path}/comments"))
        .json(&json!({"text": "?"}));
    assert_problem(comment.send().await.unwrap(), 404, "post-not-found").await;
    assert_problem(
        bo.request(Method::DELETE, &path).send().await.unwrap(),
        404,
        "post-not-found",
    )
    .await;
    assert_eq!(app.head().await, head);

    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    bo.posts(&format!("{path}/comments"), json!({"text": "¡sí!"}))
        .await;
    assert_eq!(bo.reads(&path).await["text"], "solo para amigos");
    assert_problem(
        bo.request(Method::DELETE, &path).send().await.unwrap(),
        403,
        "forbidden",
    )
    .await;
    ana.does(Method::PATCH, &path, Some(json!({"visibility": "private"})))
        .await;
    ana.reads(&path).await;
    assert_problem(
        bo.request(Method::GET, &path).send().await.unwrap(),
        404,
        "post-not-found",
    )
    .await;
}

/// What the API may read without a policy, and why that brings nobody another tenant's.
const OPEN: [(&str, &str); 12] = [
    ("log.archived", "positions of lanes"),
    (
        "log.commands",
        "hashes, under ids that are hashes themselves",
    ),
    ("log.log", "one row, about the log"),
    (
        "log.streams",
        "read for many tenants at once, and kept by the tenant that each row names",
    ),
    ("log.tenants", "their names"),
    ("projection.generations", "which tables are read"),
    ("subscription.checkpoints", "positions of lanes"),
    ("subscription.dropped", "how many, of which subscription"),
    ("subscription.leases", "who is at work"),
    ("subscription.members", "who is at work"),
    ("subscription.parked", "for operators, who run all tenants"),
    ("subscription.parked_facts", "positions, for operators"),
];

#[tokio::test]
async fn every_table_that_the_api_may_read_has_its_policy() {
    let app = App::start().await;
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "SELECT c.oid::regclass::text, c.relrowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'm')
            AND has_schema_privilege('cinelog_api', n.oid, 'USAGE')
            AND has_any_column_privilege('cinelog_api', c.oid, 'SELECT')
        ORDER BY 1",
    )
    .fetch_all(&app.owner)
    .await
    .unwrap();
    let open = tables.iter().filter(|(_, guarded)| !guarded);
    let open: Vec<&str> = open.map(|(name, _)| &**name).collect();
    assert_eq!(open, OPEN.map(|(name, _why)| name));
    tell(format_args!(
        "row level security: {} tables that the API may read, {} without a policy",
        tables.len(),
        open.len()
    ));
}

#[tokio::test]
async fn a_query_of_the_log_that_forgets_its_tenant_sees_no_other() {
    let app = App::start().await;
    let elsewhere = app.second_tenant().await;
    let mut users = [app.user("ana"), app.user_of(elsewhere, "zoe")];
    for user in &mut users {
        user.posts("/v1/posts", json!({"text": "hola"})).await;
    }
    let pool = app.database.pool(Role::Api).await;
    for (user, tenant) in users.iter().zip([app.tenant, elsewhere]) {
        let mut tx = TenantTx::begin(&pool, tenant.0, user.id.0).await.unwrap();
        let (all, start) = (Filter::default(), Position::START);
        let page = page(&mut *tx, start, &all, Limits::BULK).await;
        // It would be all facts, and is not: that is noticed too.
        assert!(matches!(page, Err(LogError::Gap { .. })), "{page:?}");
        let seen: Vec<Uuid> = sqlx::query_scalar(
            "SELECT DISTINCT tenant FROM (SELECT tenant FROM log.events
                UNION ALL SELECT tenant FROM log.person_keys) AS seen",
        )
        .fetch_all(&mut *tx)
        .await
        .unwrap();
        assert_eq!(seen, [tenant.0]);
        let head = bounds(&mut *tx).await.unwrap().head;
        assert_eq!(
            head.0,
            app.head().await,
            "where the log ends is everybody's"
        );
    }
}
