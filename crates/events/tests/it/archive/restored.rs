//! A log that was restored to an older state meets the archive of what it was.

use std::fs;

use events::archive::ArchivingError;
use events::id::Position;
use events::store::{Filter, Limits};
use tempfile::TempDir;
use testing::db::Database;

use super::{archive_before, lines, partitions_of, read, reader};
use crate::relay::{all, append};
use crate::subscription;
use crate::support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_history_archived_is_replaced_before_anything_leaves_the_log() {
    let (was, out) = (subscription::world().await, TempDir::new().unwrap());
    partitions_of(&was, 1_000).await;
    append(&was, "shared", 1_500).await;
    let dump = was.database.dump();
    append(&was, "lost", 2_000).await;
    archive_before(&was, 3_001, out.path()).await.unwrap();

    let world = World::on(Database::restored(&dump).await).await;
    append(&world, "instead", 2_000).await;
    let before = all(&world).await;
    for folder in [
        "facts-000000001001-000000002000",
        "facts-000000002001-000000003000",
    ] {
        let refused = archive_before(&world, 3_001, out.path()).await.unwrap_err();
        let ArchivingError::Differs {
            position,
            folder: named,
        } = refused
        else {
            panic!("{refused}")
        };
        assert_eq!(named, folder);
        assert!(
            position > Position(1_500),
            "{position} is in both histories"
        );
        fs::remove_dir_all(out.path().join(folder)).unwrap();
    }
    let done = archive_before(&world, 3_001, out.path()).await.unwrap();
    assert_eq!(done.floor, Position(3_001));
    let reader = reader(&world, out.path()).await;
    let found = read(reader, 0, &Filter::default(), Limits::BULK).await;
    assert!(
        lines(&found) == lines(&before),
        "what is read is this log's"
    );
}
