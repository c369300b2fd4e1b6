//! A person's words are in the log as ciphertext only, and readable only as long as their key is there.

use events::decide::post as deciding;
use events::fact::Fact;
use events::fact::post::{PostPublished, Visibility};
use events::id::{Position, StreamKey};
use events::seal::{Key, Personal};
use events::store::{self, Emit, ExecuteError, Keys, Log, LogError, MasterKeys};
use service::db::Role;
use service::shutdown::Shutdown;

use crate::support::{World, post, user};

const WORDS: &str = "Vi un colibrí en Xochimilco";

pub(crate) async fn publish(world: &World, n: u128) -> Result<(), ExecuteError> {
    let stream = StreamKey::post(post(n));
    let fact = PostPublished {
        post: post(n),
        author: user(1),
        text: WORDS.into(),
        place: Some("Xochimilco".into()),
        location: None,
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
    erase(&world, 1).await;
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
async fn who_never_wrote_and_was_erased_cannot_begin_to_write() {
    let world = World::new().await;
    erase(&world, 1).await;
    let refused = publish(&world, 1).await;
    assert!(matches!(refused, Err(ExecuteError::Seal(_))), "{refused:?}");
}

async fn erase(world: &World, n: u128) {
    sqlx::query("SELECT log.erase_person($1, $2)")
        .bind(world.tenant)
        .bind(user(n))
        .execute(&world.owner().await)
        .await
        .unwrap();
}

async fn open(world: &World, keys: impl Into<MasterKeys>) -> Result<Log, LogError> {
    let pool = world.database.pool(Role::Api).await;
    Log::open(pool, Keys::new(keys), &world.shutdown).await
}

const OLD: [u8; 32] = [7; 32];
const NEW: [u8; 32] = [8; 32];

#[tokio::test]
async fn a_second_master_key_is_refused_even_before_anyone_has_written() {
    let world = World::new().await;
    let refused = open(&world, Key::from_bytes(NEW)).await;
    assert!(matches!(refused, Err(LogError::Key(_))), "{refused:?}");
    // Projectors have another role, and are told the same.
    let projector = world.database.pool(Role::Projector).await;
    let checked = async |key| Keys::new(Key::from_bytes(key)).check(&projector).await;
    assert!(matches!(checked(NEW).await, Err(LogError::Key(_))));
    checked(OLD).await.unwrap();
}

#[tokio::test]
async fn a_new_master_key_takes_over_without_a_moment_in_which_something_does_not_open() {
    let world = World::new().await;
    publish(&world, 1).await.unwrap();
    erase(&world, 3).await;
    let (old, new) = (|| Key::from_bytes(OLD), || Key::from_bytes(NEW));
    let owner = world.owner().await;
    // Nobody knows both keys yet: the rotation is refused and changes nothing.
    let alone = MasterKeys::one(new());
    assert!(matches!(
        store::rotate(&owner, &alone, &|_| {}).await,
        Err(LogError::Key(_))
    ));

    let reads = async |keys: MasterKeys| text_of(&open(&world, keys).await.unwrap(), 1).await;
    let words = Personal::Clear(WORDS.to_owned());
    assert_eq!(reads(MasterKeys::two(old(), new())).await, words);
    assert_eq!(reads(MasterKeys::two(new(), old())).await, words);
    let both = MasterKeys::two(new(), old());
    let rotated = store::rotate(&owner, &both, &|_| {}).await.unwrap();
    assert_eq!((rotated.rewrapped, rotated.before), (1, 0));
    assert_eq!(reads(MasterKeys::two(old(), new())).await, words);
    assert_eq!(reads(MasterKeys::one(new())).await, words);
    let refused = open(&world, old()).await;
    assert!(matches!(refused, Err(LogError::Key(_))), "{refused:?}");
    // Again, as after a stop: nothing is left to do, and the erased one has not come back.
    let again = store::rotate(&owner, &both, &|_| {}).await.unwrap();
    assert_eq!((again.rewrapped, again.before), (0, 1));
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM log.person_keys WHERE wrapped IS NOT NULL")
            .fetch_one(&owner)
            .await
            .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn nobody_but_the_owner_may_erase_or_rotate() {
    let world = World::new().await;
    for role in [Role::Api, Role::Projector, Role::Transcoder] {
        let pool = world.database.pool(role).await;
        for call in [
            "SELECT log.erase_person(gen_random_uuid(), gen_random_uuid())",
            "SELECT log.rewrap('{}', '{}', '{}', '{}')",
            "SELECT log.replace_master_check('', '')",
        ] {
            let refused = sqlx::query(call).execute(&pool).await.unwrap_err();
            let code = refused
                .as_database_error()
                .and_then(|error| error.code().map(String::from));
            assert_eq!(
                code.as_deref(),
                Some("42501"),
                "{role:?}: {call}: {refused}"
            );
        }
    }
}
