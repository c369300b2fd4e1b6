//! The master key is replaced, and whoever does it dies on the way.

use std::os::unix::process::ExitStatusExt;

use crate::world::{LIMIT, MASTER_KEY, World};

/// A rotation is killed half-way: with both keys everything opens, and a repeat comes to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_goes_on_and_loses_no_key() {
    let mut world = World::new(None, 11).await;
    world.life.go_on(40).await;
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
