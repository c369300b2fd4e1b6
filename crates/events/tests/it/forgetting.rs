//! A person's words are in the log as ciphertext only, and readable only as long as their key is there.

use events::decide::post as deciding;
use events::fact::Fact;
use events::fact::post::{PostPublished, Visibility};
use events::id::{Position, StreamKey};
use events::seal::{Key, Personal};
use events::store::{Emit, ExecuteError, Keys, Log, LogError};
use service::db::Role;
use service::shutdown::Shutdown;

use crate::support::{World, post, user};

const WORDS: &str = "Vi un colibrí en Xochimilco";

async fn publish(world: &World, n: u128) -> Result<(), ExecuteError> {
    let stream = StreamKey::post(post(n));
    let fact = PostPublished {
        post: post(n),
        author: user(1),
        text: WORDS.into(),
        place: Some("Xochimilco".into()),
        language: Some("es".to_owned()),
        assets: vec![],
        visibility: Visibility::Public,
    };
    let command = world.command(user(1), "publish", &n.to_string());
    let publish = |_: &events::store::Streams| {
        Ok(Emit::all(
            &stream,
            deciding::publish(&deciding::PostState::default(), fact.clone(), &[])?,
        ))
    };
    world
        .log
        .execute(&command, std::slice::from_ref(&stream), publish)
        .await
        .map(drop)
}

async fn text_of(log: &Log, position: i64) -> Personal {
    let stored = log.read(Position(position - 1), 1).await.unwrap();
    let Fact::PostPublished(post) = log.open_facts(stored).await.unwrap().remove(0).fact else {
        panic!("another fact")
    };
    post.text
}

#[tokio::test]
async fn a_dump_of_the_log_shows_none_of_the_words() {
    let world = World::new().await;
    publish(&world, 1).await.unwrap();
    let dump = tokio::process::Command::new("pg_dump")
        .args(["--schema=log", "--dbname", world.database.url().expose()])
        .output()
        .await
        .unwrap();
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("post.published"), "the dump holds the fact");
    for word in ["colibr", "Xochimilco"] {
        assert!(!dump.contains(word), "{word} is in the dump");
    }
    assert_eq!(
        text_of(&world.log, 1).await,
        Personal::Clear(WORDS.to_owned())
    );
}

#[tokio::test]
async fn without_the_persons_key_the_words_are_erased_everywhere_and_stay_so() {
    let world = World::new().await;
    publish(&world, 1).await.unwrap();
    sqlx::query("UPDATE log.person_keys SET wrapped = NULL, erased_at = now()")
        .execute(&world.owner().await)
        .await
        .unwrap();
    assert_eq!(text_of(&world.log, 1).await, Personal::Erased);
    // Another process, which has no key in its cache, cannot write in the person's name again.
    let (keys, shutdown) = (Keys::new(Key::from_bytes([7; 32])), Shutdown::new());
    let log = Log::open(world.database.pool(Role::Api).await, keys, &shutdown)
        .await
        .unwrap();
    let other = World {
        log,
        ..World::new().await
    };
    let refused = publish(&other, 2).await;
    assert!(matches!(refused, Err(ExecuteError::Seal(_))), "{refused:?}");
}

#[tokio::test]
async fn another_master_key_is_a_clear_error() {
    let world = World::new().await;
    publish(&world, 1).await.unwrap();
    let keys = Keys::new(Key::from_bytes([8; 32]));
    let refused = Log::open(world.database.pool(Role::Api).await, keys, &Shutdown::new()).await;
    assert!(matches!(refused, Err(LogError::Key(_))), "{refused:?}");
}
