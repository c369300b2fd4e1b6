//! What `cinelog doctor` finds.

use tempfile::TempDir;
use testing::db::Database;

use crate::cinelog;

#[tokio::test]
async fn what_is_as_it_should_be_and_what_is_not_are_told_apart() {
    let (database, folder) = (Database::migrated().await, TempDir::new().unwrap());
    let url = database.url().expose().to_owned();
    let store = folder.path().join("store").to_str().unwrap().to_owned();
    let ask = |store: &str, url: &str| {
        cinelog(&["doctor", "--storage-url", store, "--database-url", url])
    };
    // A folder that nobody made is no store: it may not be mounted yet.
    let ill = ask(&store, &url);
    let told = String::from_utf8_lossy(&ill.stdout).into_owned();
    assert!(!ill.status.success(), "{told}");
    assert!(
        told.contains("ok    postgres: version") && told.contains("FAIL  storage: "),
        "{told}"
    );
    storage_at(&store);
    let well = ask(&store, &url);
    let told = String::from_utf8_lossy(&well.stdout).into_owned();
    assert!(well.status.success(), "{told}");
    assert!(
        told.contains("ok    storage: objects are put once"),
        "{told}"
    );
    let ill = ask(&store, "postgres://nobody@127.0.0.1:1/nothing");
    let told = String::from_utf8_lossy(&ill.stdout).into_owned();
    assert!(
        !ill.status.success() && told.contains("FAIL  postgres: "),
        "{told}"
    );
}

/// Makes a folder a store, as the process does that owns it.
fn storage_at(folder: &str) {
    use clap::Parser;
    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        storage: storage::Config,
    }
    let arguments = Arguments::parse_from(["test", "--storage-url", folder]);
    storage::Store::open_or_make(&arguments.storage).unwrap();
}
