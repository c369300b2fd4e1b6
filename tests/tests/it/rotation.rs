//! The master key is replaced, and whoever does it dies on the way.

use std::os::unix::process::ExitStatusExt;

use events::decide::user;
use events::id::{CommandId, StreamKey, UserId};
use events::seal::Key;
use events::store::{self, Emit, Keys, Log};
use futures::{StreamExt, stream};
use service::db::Role;

use crate::world::{LIMIT, MASTER_KEY, World};

/// So many people who have written that their keys are wrapped in more than one batch.
async fn crowd(world: &World) {
    let pool = world.database.pool(Role::Api).await;
    let keys = Keys::new(Key::from_bytes([7; 32]));
    let log = Log::open(pool, keys, &world.shutdown).await.unwrap();
    let tenant = log.default_tenant().await.unwrap();
    let register = |n: usize| {
        let (name, log) = (format!("crowd{n}"), log.clone());
        async move {
            let user = UserId::of("cinelog", &name);
            let command = store::Command {
                id: CommandId {
                    tenant,
                    actor: user,
                    route: "test".to_owned(),
                    key: name.clone(),
                },
                body_hash: [0; 32],
                correlation: None,
                cause: None,
            };
            let key = StreamKey::user(user);
            let wanted = |streams: &store::Streams| {
                Ok(Emit::all(
                    &key,
                    user::register(&streams.get(&key), "cinelog", &name)?,
                ))
            };
            let done = log
                .execute(&command, std::slice::from_ref(&key), wanted)
                .await;
            assert!(!done.unwrap().facts.is_empty());
        }
    };
    stream::iter(0..1_200)
        .map(register)
        .buffer_unordered(64)
        .collect::<()>()
        .await;
}

/// A rotation is killed half-way: with both keys everything opens, and a repeat comes to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_goes_on_and_loses_no_key() {
    let mut world = World::new(None, 11).await;
    world.life.go_on(40).await;
    crowd(&world).await;
    let projectors = world.start(&["projectors"]);
    world.caught_up().await;
    let (old, new) = (MASTER_KEY, "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=");
    let run = async |command: &[&str], keys: (&str, &str), point: &str| {
        let environment = [
            ("MASTER_KEY", keys.0),
            ("SECOND_MASTER_KEY", keys.1),
            ("CINELOG_FAILPOINTS", point),
        ];
        world
            .programs
            .start(command, &environment)
            .finish(LIMIT)
            .await
    };
    let (rotate, open) = (["master-key", "rotate"], ["verify", "--rebuild"]);
    for point in ["rotate.rewrapped", "rotate.checked"] {
        let killed = run(&rotate, (new, old), &format!("{point}=kill@1")).await;
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
        for keys in [(new, old), (old, new)] {
            let opened = run(&open, keys, "").await;
            assert!(opened.status.success(), "after {point}: {opened:?}");
        }
    }
    let rotated = run(&rotate, (new, old), "").await;
    assert!(rotated.stdout.starts_with("0 keys wrapped"), "{rotated:?}");
    let opened = run(&open, (new, ""), "").await;
    assert!(opened.status.success(), "{opened:?}");
    let refused = run(&open, (old, ""), "").await;
    assert!(!refused.status.success(), "{refused:?}");
    projectors.kill();
    assert!(world.shutdown.finish(LIMIT).await);
}
