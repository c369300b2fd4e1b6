//! What `cinelog doctor` finds.

use std::time::Duration;

use tempfile::TempDir;
use testing::db::Database;
use testing::process::Child;
use testing::s3::S3Server;

use crate::cinelog;

const LIMIT: Duration = Duration::from_mins(1);

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

/// The server has no rules for pages of others, and cannot be given any.
#[tokio::test]
async fn a_bucket_that_does_not_let_pages_upload_is_told_by_what_it_lacks() {
    let (database, server) = (Database::migrated().await, S3Server::start().await);
    let (url, page) = (server.storage_url(), "https://app.example");
    let ask = async |besides: &[&str]| {
        let bucket = [
            "doctor",
            "--database-url",
            database.url().expose(),
            "--storage-url",
            &url,
            "--aws-access-key-id",
            &server.access_key,
            "--aws-secret-access-key",
            &server.secret_key,
        ];
        let arguments = [&bucket[..], besides].concat();
        let doctor = Child::start(env!("CARGO_BIN_EXE_cinelog"), &arguments, &[]);
        doctor.finish(LIMIT).await
    };
    let well = ask(&[]).await;
    assert!(well.status.success(), "{well:?}");
    let parts = "ok    storage, in parts: begun, listed and given up\n";
    assert!(well.stdout.contains(parts), "{well:?}");
    assert!(!well.stdout.contains("pages of"), "{well:?}");

    let ill = ask(&["--cors-origins", page]).await;
    assert_eq!(ill.status.code(), Some(1), "{ill:?}");
    let objects = "ok    storage: objects are put once, read and deleted\n";
    assert!(ill.stdout.contains(objects), "{ill:?}");
    let told = format!(
        "FAIL  storage, pages of {page}: the bucket's CORS rules must also allow: origin {page}, method PUT, \
         header content-type, header if-none-match, header x-amz-checksum-sha256\n"
    );
    assert!(ill.stdout.contains(&told), "{ill:?}");
    let why = "1 of what was looked at is not as it should be";
    assert!(ill.stderr.contains(why), "{ill:?}");
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
