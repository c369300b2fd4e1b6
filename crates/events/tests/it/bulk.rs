//! Reading everything, as a rebuild, an export and a replay do: the same facts as page by page.

use events::id::Position;
use events::store::{Filter, Limits, LogError, Reader};
use service::db::{self, Role};

use crate::support::World;

const FACTS: i64 = 6_000;

/// A log of small facts, among them twenty of 900 kB: more than two pages hold.
async fn filled() -> World {
    let world = World::new().await;
    sqlx::query(
        "INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                 event_id, recorded_at)
         SELECT g, g % 64, t.tenant, 'reaction-' || g, 1, 'reaction.added', 1, 'post-' || g,
                jsonb_build_object('kind', 'ñ' || repeat('x', CASE WHEN g BETWEEN 3000 AND 3019 THEN 900000 ELSE 10 END)),
                jsonb_build_object('actor', gen_random_uuid(), 'command', g::text, 'cause', gen_random_uuid()),
                gen_random_uuid(), to_timestamp(1.5 * g)
         FROM log.tenants t, generate_series(1, $1) g",
    )
    .bind(FACTS)
    .execute(&world.owner().await)
    .await
    .unwrap();
    world
}

#[tokio::test]
async fn everything_is_read_ahead_as_it_is_read_page_by_page() {
    let world = filled().await;
    let wanted = world.log.read(Position::START, FACTS).await.unwrap();
    let pool = world.database.pool(Role::Projector).await;
    // As much as fits; and as a plan asks whose segments are small.
    for positions in [10_000, 1_700, 1_000, 7] {
        let (mut reader, mut at, mut found) = (Reader::from(&pool), Position::START, vec![]);
        loop {
            let limits = Limits::BULK.within(positions);
            let page = reader.page(at, &Filter::default(), limits).await.unwrap();
            assert!(page.seen.0 - at.0 <= positions, "no more than asked for");
            let bytes: usize = page.facts.iter().map(|fact| fact.payload.len()).sum();
            assert!(bytes < 10 << 20, "a page fits in memory: {bytes}");
            if page.seen == at {
                break;
            }
            at = page.seen;
            found.extend(page.facts);
        }
        assert_eq!(found.len(), wanted.len());
        assert!(found == wanted, "{positions} at a time");
    }
}

#[tokio::test]
async fn a_reader_that_is_behind_is_told_of_a_gap() {
    let world = filled().await;
    let (owner, pool) = (
        world.owner().await,
        world.database.pool(Role::Projector).await,
    );
    let all = Filter::default();
    let mut tx = db::begin(&owner, "BEGIN").await.unwrap();
    for sql in [
        "SET LOCAL session_replication_role = replica",
        "DELETE FROM log.events WHERE position = 4321",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut at = Position::START;
    let mut reader = Reader::from(&pool);
    let gap = loop {
        match reader.page(at, &all, Limits::BULK).await {
            Ok(page) => at = page.seen,
            Err(error) => break error,
        }
    };
    assert!(matches!(gap, LogError::Gap { missing: 4321 }), "{gap:?}");
}

#[tokio::test]
async fn a_reader_that_is_behind_is_told_when_the_floor_passes_it() {
    let world = filled().await;
    let pool = world.database.pool(Role::Projector).await;
    let (all, mut reader) = (Filter::default(), Reader::from(&pool));
    let first = reader.page(Position::START, &all, Limits::BULK).await;
    let mut at = first.unwrap().seen;
    sqlx::query("UPDATE log.log SET floor = 5000")
        .execute(&world.owner().await)
        .await
        .unwrap();
    // What was read ahead may still come; then the floor is told, and nothing is passed over.
    let old = loop {
        match reader.page(at, &all, Limits::BULK).await {
            Ok(page) => {
                let first = page.facts.first().map(|fact| fact.position);
                assert_eq!(first, Some(at.next()));
                at = page.seen;
            }
            Err(error) => break error,
        }
    };
    assert!(
        matches!(old, LogError::TooOld { floor: 5000, .. }),
        "{old:?}"
    );
}
