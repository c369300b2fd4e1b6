//! The same facts give the same tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::UserId;
use events::seal::Personal;
use projectors::config::Config;
use projectors::registry::Projection;
use projectors::{generation, registry};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::TestCaseError;

use crate::history::{self, Attempt, History, delivery, user};
use crate::model::{Models, cases, runtime};

/// So small that every path of the feed is taken.
const SMALL: Config = Config {
    feed_push_limit: 2,
    feed_cap: 3,
    feed_trim_every: 1,
};

/// What gives the read models to be looked at.
type These = fn(&Config) -> Vec<Arc<dyn Projection>>;

/// Every law, of some read models: `laws::hold(|_| vec![Arc::new(Mine)])` is all that a new one needs. Those of the registry are
/// looked at in tests of their own.
pub(crate) fn hold(some: These) {
    tables_do_not_depend_on_how_facts_arrive(some);
    forgetting_a_person_leaves_what_a_rebuild_leaves(some);
}

#[test]
fn the_tables_of_every_read_model_do_not_depend_on_how_facts_arrive() {
    tables_do_not_depend_on_how_facts_arrive(registry::all);
}

#[test]
fn in_every_read_model_forgetting_a_person_leaves_what_a_rebuild_leaves() {
    forgetting_a_person_leaves_what_a_rebuild_leaves(registry::all);
}

/// Some read models, and the names of two generations of each.
async fn two_of_each(some: These) -> (Models, BTreeMap<&'static str, [String; 2]>) {
    let mut models = Models::create(&SMALL).await;
    models.all = some(&SMALL);
    let mut made = BTreeMap::new();
    for projection in &models.all {
        let mut two = [const { String::new() }; 2];
        for one in &mut two {
            *one = generation::fresh_generation(&models.owner, projection.as_ref())
                .await
                .expect("make a generation");
        }
        made.insert(projection.name(), two);
    }
    (models, made)
}

/// Any split into batches and any interleaving of subjects gives the tables that one fact at a time gives, which is what
/// a rebuild from zero does too. So does what is taken in twice because the first time was lost in a crash.
fn tables_do_not_depend_on_how_facts_arrive(some: These) {
    let runtime = runtime();
    let (models, made) = runtime.block_on(two_of_each(some));
    let histories = (vec(any::<Attempt>(), 0..60), any::<u64>());
    cases()
        .run(&histories, |(attempts, seed)| {
            let facts = History::of(&attempts).facts;
            runtime.block_on(async {
                for projection in &models.all {
                    let [one, other] = &made[projection.name()];
                    models.clear(one).await;
                    models.clear(other).await;
                    for (n, batch) in delivery(&facts, seed).into_iter().enumerate() {
                        if n % 4 == 0 {
                            let lost = models.begin(projection.as_ref(), one, &batch).await;
                            lost.expect("apply a batch")
                                .rollback()
                                .await
                                .expect("lose it");
                        }
                        models.apply(projection.as_ref(), one, &batch).await;
                    }
                    for fact in &facts {
                        models
                            .apply(projection.as_ref(), other, std::slice::from_ref(fact))
                            .await;
                    }
                    let (one, other) = (models.hashes(one).await, models.hashes(other).await);
                    proptest::prop_assert_eq!(one, other, "{}", projection.name());
                }
                Ok::<(), TestCaseError>(())
            })
        })
        .expect("the law holds");
}

/// Whose words a fact carries.
fn person(fact: &Fact) -> Option<UserId> {
    Some(match fact {
        Fact::UploadRequested(fact) => fact.owner,
        Fact::UserRegistered(fact) => fact.user,
        Fact::ProfileUpdated(fact) => fact.user,
        Fact::PostPublished(fact) => fact.author,
        Fact::PostEdited(fact) => fact.author,
        Fact::CommentAdded(fact) => fact.author,
        Fact::CommentEdited(fact) => fact.author,
        Fact::ReportFiled(fact) => fact.reporter,
        other => {
            assert!(!other.has_personal(), "whose is {}?", other.fact_type());
            return None;
        }
    })
}

/// The facts as they read once the person's key is gone.
fn unreadable(facts: &[Recorded], whose: UserId) -> Vec<Recorded> {
    let mut facts = facts.to_vec();
    for recorded in &mut facts {
        if person(&recorded.fact) == Some(whose) {
            for (_, personal) in recorded.fact.personal() {
                *personal = Personal::Erased;
            }
        }
    }
    facts
}

/// Whenever a person is forgotten, the tables become what a rebuild without the person's key makes.
fn forgetting_a_person_leaves_what_a_rebuild_leaves(some: These) {
    let runtime = runtime();
    let (models, made) = runtime.block_on(two_of_each(some));
    let histories = (vec(any::<Attempt>(), 0..60), any::<u8>(), any::<u8>());
    cases()
        .run(&histories, |(attempts, whose, when)| {
            let facts = History::of(&attempts).facts;
            let erased = unreadable(&facts, user(whose));
            let cut = facts.len() * usize::from(when) / 255;
            runtime.block_on(async {
                for projection in &models.all {
                    let name = projection.name();
                    let [one, other] = &made[name];
                    models.clear(one).await;
                    models.clear(other).await;
                    let model = projection.as_ref();
                    models.apply(model, one, &facts[..cut]).await;
                    let mut tx = models.begin(model, one, &[]).await.expect("begin");
                    let person = (history::tenant(), user(whose));
                    projection.forget(person, &mut tx).await.expect("forget");
                    tx.commit().await.expect("commit");
                    models.apply(model, one, &erased[cut..]).await;
                    models.apply(model, other, &erased).await;
                    let (one, other) = (models.hashes(one).await, models.hashes(other).await);
                    proptest::prop_assert_eq!(one, other, "{}", name);
                }
                Ok::<(), TestCaseError>(())
            })
        })
        .expect("the law holds");
}

async fn empty_tables(models: &Models) -> BTreeSet<String> {
    let mut empty = BTreeSet::new();
    for projection in &models.all {
        let generation = format!("{}_g1", projection.name());
        for (table, hash) in models.hashes(&generation).await {
            if hash.starts_with("0:") {
                empty.insert(format!("{generation}.{table}"));
            }
        }
    }
    empty
}

/// The comparison above would be worth nothing if histories were empty or hashes blind.
#[test]
fn histories_reach_every_table_and_hashes_see_every_row() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let facts = History::rich().facts;
        let mut empty: Option<BTreeSet<String>> = None;
        // At its end, all of one kind may be gone again.
        for facts in facts.chunks(20) {
            models.tell(facts).await;
            let now = empty_tables(&models).await;
            empty = Some(empty.map_or(now.clone(), |before| &before & &now));
        }
        // No decider makes an asset with a poster and a missing output yet; see `answers`.
        assert_eq!(empty.unwrap(), BTreeSet::from(["media_g1.warning".to_owned()]));

        let hash = async || registry::table_hashes(&models.projector, "feed_g1").await.unwrap();
        let was = hash().await;
        sqlx::query("UPDATE feed_g1.post SET place = 'x' WHERE position = (SELECT max(position) FROM feed_g1.post)")
            .execute(&models.projector)
            .await
            .unwrap();
        let is = hash().await;
        assert_ne!(was["post"], is["post"]);
        assert_eq!(was["follow"], is["follow"]);
        assert!(!is.contains_key("feed_entry"), "a cache is not compared");
    });
}

#[test]
fn a_completed_build_has_the_indexes_of_what_is_read() {
    let runtime = runtime();
    let (models, made) = runtime.block_on(two_of_each(registry::all));
    runtime.block_on(async {
        let indexes = async |generation: &str| -> BTreeSet<String> {
            let sql = "SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = $1";
            let all = sqlx::query_scalar(sql).bind(generation);
            all.fetch_all(&models.owner).await.unwrap().into_iter().collect()
        };
        for projection in &models.all {
            let [build, _] = &made[projection.name()];
            let read = indexes(&format!("{}_g1", projection.name())).await;
            let bare = indexes(build).await;
            assert_eq!(read.len() - bare.len(), projection.late().len(), "{build}");
            for _ in 0..2 {
                let model = projection.as_ref();
                generation::complete(&models.owner, model, build).await.unwrap();
                assert_eq!(indexes(build).await, read, "{build}");
            }
        }
    });
}

#[test]
fn preparing_twice_changes_nothing() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let (one, other) = tokio::join!(
            registry::prepare(&models.owner),
            registry::prepare(&models.owner)
        );
        one.and(other).unwrap();
        let live = registry::live(&models.api).await.unwrap();
        assert_eq!(live.len(), models.all.len());
        assert!(
            live.values().all(|generation| generation.ends_with("_g1")),
            "{live:?}"
        );
        let subscribers = registry::subscribers(&models.projector, &Config::default())
            .await
            .unwrap();
        assert_eq!(subscribers.len(), models.all.len());
    });
}
