//! What a migration makes of states that an older version kept.

use events::decide::post::PostState;
use events::fact::post::{PostPublished, Visibility};
use events::id::{AssetId, Position, StreamKey};
use events::store::{Append, Expected};
use events::verify;
use sqlx::AssertSqlSafe;
use testing::environment;
use uuid::Uuid;

use crate::support::{World, post, user};

#[tokio::test]
async fn posts_of_before_learn_what_they_carry() {
    let world = World::new().await;
    let assets = vec![AssetId(Uuid::from_u128(5)), AssetId(Uuid::from_u128(6))];
    for (n, assets) in [(1, assets.clone()), (2, vec![])] {
        let published = PostPublished {
            post: post(n),
            author: user(1),
            text: "Hola".into(),
            place: None,
            location: None,
            language: None,
            assets,
            visibility: Visibility::Public,
        };
        let append = Append {
            stream: StreamKey::post(post(n)),
            expected: Expected::NoStream,
            facts: vec![published.into()],
        };
        let command = world.command(user(1), "publish", &n.to_string());
        world.log.append(&command, vec![append]).await.unwrap();
    }
    let mut owner = world.owner().await.acquire().await.unwrap();
    sqlx::query("UPDATE log.streams SET state = state - 'assets'")
        .execute(&mut *owner)
        .await
        .unwrap();
    let file = environment::root().join("schemas/postgres/log/1012_post_assets.sql");
    let migration = std::fs::read_to_string(file).unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {migration} COMMIT")))
        .execute(&mut *owner)
        .await
        .unwrap();
    for (n, assets) in [(1, assets), (2, vec![])] {
        let key = StreamKey::post(post(n));
        let row = world.log.stream(world.tenant, &key.stream).await.unwrap();
        let state: PostState = row.unwrap().state();
        assert_eq!(state.assets, assets);
    }
    let report = verify::log(&mut owner, None, None, Position(1), &|_| {})
        .await
        .unwrap();
    assert_eq!(report.differences.first, []);
    assert_eq!(report.streams, 2);
}
