//! Kills between any two steps.

use events::store::{Filter, Limits};
use tempfile::TempDir;

use super::{LIMIT, all_tables, archive_before, floor, read, reader, world};
use crate::relay::{all, append};

/// Archives in a process of its own, which dies at `point`; then here, to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archiver_killed_between_any_two_steps_comes_to_the_same_end() {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/archive");
    for point in [
        "export.before_manifest=kill@2",
        "export.after_manifest=kill@3",
        "archive.exported=kill@1",
        "archive.compared=kill@2",
        "archive.indexed=kill@1",
        "archive.indexed=kill@2",
        "archive.floor_moved=kill@1",
        "archive.detached=kill@1",
        "archive.detached=kill@2",
    ] {
        let (world, out) = (world().await, TempDir::new().unwrap());
        let before = all(&world).await;
        let url = world.database.url();
        let arguments = [url.expose(), "3001", out.path().to_str().unwrap()];
        let failpoints = [("CINELOG_FAILPOINTS", point)];
        let killed = testing::process::Child::start(&program, &arguments, &failpoints);
        let killed = killed.finish(LIMIT).await;
        assert!(!killed.status.success(), "{point}: {killed:?}");

        let reader = reader(&world, out.path()).await;
        let found = read(reader.clone(), 0, &Filter::default(), Limits::BULK).await;
        assert!(found == before, "{point}: right after the kill");
        append(&world, "meanwhile", 10).await;
        archive_before(&world, 3_001, out.path()).await.unwrap();
        assert_eq!(floor(&world).await, 3_001, "{point}");
        assert!(
            all_tables(&world)
                .await
                .iter()
                .all(|table| table.as_str() > "log.events_at_2001"),
            "{point}"
        );
        let found = read(reader, 0, &Filter::default(), Limits::BULK).await;
        assert!(found[..3_500] == before && found.len() == 3_510, "{point}");
    }
}
