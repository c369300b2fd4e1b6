//! What nobody may see: other tenants' rows, and in one's own tenant what is private to others.

use projectors::config::Config;
use projectors::page::Viewer;
use projectors::{engagement, feed, graph, media, moderation, pairing, search};
use service::db::{self, TenantTx};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::history::{History, post_id, tenant, user};
use crate::model::{Models, runtime};

/// Every table of every generation, and every view that is read.
async fn relations(models: &Models, kind: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname)
        FROM projection.generations g
        JOIN pg_namespace n ON n.nspname IN (g.projection, g.projection || '_g' || g.generation)
        JOIN pg_class c ON c.relnamespace = n.oid
        WHERE c.relkind::text = $1",
    )
    .bind(kind)
    .fetch_all(&models.owner)
    .await
    .expect("list relations")
}

#[test]
fn every_table_is_guarded() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let tables = relations(&models, "r").await;
        assert!(tables.len() >= 29, "{tables:?}");
        for table in tables {
            let guarded: bool = sqlx::query_scalar(
                "SELECT c.relrowsecurity AND c.relforcerowsecurity
                    AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
                    AND EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                        WHERE i.indrelid = c.oid AND i.indisprimary AND a.attname = 'tenant')
                FROM pg_class c WHERE c.oid = $1::regclass",
            )
            .bind(&table)
            .fetch_one(&models.owner)
            .await
            .unwrap();
            assert!(guarded, "{table}");
        }
        for view in relations(&models, "v").await {
            let (options, owner): (Option<Vec<String>>, String) = sqlx::query_as(
                "SELECT reloptions, relowner::regrole::text FROM pg_class WHERE oid = $1::regclass",
            )
            .bind(&view)
            .fetch_one(&models.owner)
            .await
            .unwrap();
            // Either the reader's rights, or those of a role that HTTP cannot reach: never the owner's.
            let invoker = options.is_some_and(|options| options == ["security_invoker=true"]);
            let known = ["search_g1.found", "search_g1.spelt"].contains(&&*view);
            assert!(invoker || known, "{view}");
            assert!(invoker || owner == "cinelog_projector", "{view} of {owner}");
        }
    });
}

#[test]
fn without_a_tenant_or_from_another_nothing_is_seen() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        models.tell(&History::rich().facts).await;
        let strangers = TenantTx::begin(&models.api, Uuid::from_u128(0xB), user(0).0)
            .await
            .unwrap();
        let nobody = db::begin(&models.api, "BEGIN").await.unwrap();
        let (mut strangers, mut nobody) = (strangers, nobody);
        let (mut own, _) = models.read(user(0)).await;
        let mut seen = 0;
        for relation in relations(&models, "r")
            .await
            .into_iter()
            .chain(relations(&models, "v").await)
        {
            let count = format!("SELECT count(*) FROM {relation}");
            let n: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
                .fetch_one(&mut *strangers)
                .await
                .unwrap();
            assert_eq!(n, 0, "another tenant sees {relation}");
            let n: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
                .fetch_one(&mut *nobody)
                .await
                .unwrap();
            assert_eq!(n, 0, "nobody sees {relation}");
            let n: i64 = sqlx::query_scalar(AssertSqlSafe(count))
                .fetch_one(&mut *own)
                .await
                .unwrap();
            seen += i64::from(n > 0);
        }
        assert!(seen > 30, "the tenant itself sees only {seen}");
    });
}

/// The queries name the tenant too, but it is the transaction's that counts.
#[test]
fn a_forged_viewer_sees_nothing() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        models.tell(&History::rich().facts).await;
        let mut tx = TenantTx::begin(&models.api, Uuid::from_u128(0xB), user(9).0)
            .await
            .unwrap();
        let forged = Viewer {
            tenant: tenant(),
            user: user(0),
        };
        let words = search::query::Search {
            words: "hola".to_owned(),
            ..Default::default()
        };
        let (tx, post) = (&mut tx, post_id(0));
        let own = feed::query::by_author(tx, forged, user(0), None, 9)
            .await
            .unwrap();
        let feed = feed::query::page(tx, forged, None, 9).await.unwrap();
        assert_eq!((own.items, feed.items), (vec![], vec![]));
        let assets = media::query::mine(tx, forged, None, 9).await.unwrap();
        assert_eq!(assets.items, []);
        let profile = graph::query::profile(tx, forged, user(0)).await.unwrap();
        assert_eq!(profile, None);
        let people = pairing::query::candidates(tx, forged, None, 9)
            .await
            .unwrap();
        assert_eq!(people.items, []);
        let found = search::query::search(tx, forged, &words, None, 9)
            .await
            .unwrap();
        assert_eq!(found.items, []);
        let comments = engagement::query::comments(tx, forged, post, None, None, 9)
            .await
            .unwrap();
        assert_eq!(comments.items, []);
        tx.as_moderator().await.unwrap();
        let queue = moderation::query::queue(tx, forged, None, 9).await.unwrap();
        assert_eq!(queue.items, []);
    });
}

#[test]
fn what_someone_thinks_of_another_is_theirs_alone() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.pair(0, 1, 3);
        history.mute(0, 1, 1);
        history.upload(0, 0);
        models.tell(&history.facts).await;
        for (reader, rows) in [(0, 1i64), (1, 0)] {
            let (mut tx, _) = models.read(user(reader)).await;
            for table in ["pairing.verdict", "graph.mute", "media.upload", "media.job"] {
                let n: i64 =
                    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
                        .fetch_one(&mut *tx)
                        .await
                        .unwrap();
                assert_eq!(n, rows, "{table} for {reader}");
            }
        }
    });
}

/// Of a super-like the other side learns, and of a block it must be possible to ask on both: each has a row of its own.
#[test]
fn what_is_between_two_a_third_does_not_see() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        history.pair(0, 1, 2);
        history.block(0, 1, 1);
        models.tell(&history.facts).await;
        for (reader, admirers, blocks) in [(0, 0i64, 1i64), (1, 1, 1), (2, 0, 0)] {
            let (mut tx, _) = models.read(user(reader)).await;
            let rows: (i64, i64) = sqlx::query_as(
                "SELECT (SELECT count(*) FROM pairing.admirer), (SELECT count(*) FROM graph.block)",
            )
            .fetch_one(&mut *tx)
            .await
            .unwrap();
            assert_eq!(rows, (admirers, blocks), "for {reader}");
        }
    });
}

#[test]
fn the_api_writes_nothing() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        for relation in relations(&models, "r")
            .await
            .into_iter()
            .chain(relations(&models, "v").await)
        {
            let error = sqlx::query(AssertSqlSafe(format!("DELETE FROM {relation}")))
                .execute(&models.api)
                .await;
            let code = error
                .unwrap_err()
                .into_database_error()
                .unwrap()
                .code()
                .unwrap()
                .into_owned();
            assert_eq!(code, "42501", "{relation}");
        }
    });
}
