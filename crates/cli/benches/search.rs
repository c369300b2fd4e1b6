//! How long searches take over the posts and people of a made-up history, for someone who may not see everything: the 95th
//! percentile. `p95`: a sixth each of frequent, middling and rare words, two words at once, beginnings of words, and words
//! with a letter too few, which are repaired where nothing is found. `p95 hot`: words that up to half of a language's posts have. Best first, the first twenty.
//!
//! The ceiling is the best SQL by hand for one language over the same documents without tenants, languages and visibility: it
//! ranks the newest 2,000 matches, and repairs nothing. The peer is the textbook's: `ts_rank` over all. Also printed: how many
//! misspelt words are repaired to the right one.
//!
//! `BENCH_USERS` (10,000) and `BENCH_POSTS` (100,000) are the size of the history. A million documents take a quarter of an
//! hour to get there, so there are fewer unless it is set: `BENCH_USERS=100000 BENCH_POSTS=1000000`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filling.rs"]
mod filling;
#[path = "support/live.rs"]
mod live;
#[path = "support/seeded.rs"]
mod seeded;
mod support;

use std::time::{Duration, Instant};

use cli::bench::words::{LANGUAGES, Language};
use projectors::page::Viewer;
use projectors::registry;
use projectors::search::complete;
use projectors::search::query::{self, Search};
use service::db::{Role, TenantTx};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use testing::bench::{Row, publish};

use live::viewer;
use support::World;

const ROUNDS: usize = 3;
/// Of each sort in a round.
const EACH: u64 = 40;
const LIMIT: u32 = 20;

const CAPPED: &str = "SELECT position, ts_rank(words, q) AS rank
    FROM (SELECT d.position, d.words, q FROM bare.document d, websearch_to_tsquery($1::regconfig, projection.plain($2)) q
          WHERE d.words @@ q ORDER BY d.position DESC LIMIT 2000) newest
    ORDER BY rank DESC, position DESC LIMIT 20";
const PLAIN: &str = "SELECT d.position, ts_rank(d.words, q) AS rank
    FROM bare.document d, websearch_to_tsquery($1::regconfig, projection.plain($2)) q
    WHERE d.words @@ q
    ORDER BY rank DESC, position DESC LIMIT 20";
const COMPLETE: &str = "SELECT documents, 0::real FROM bare.term WHERE plain LIKE $2 || '%' ORDER BY documents DESC, $1 LIMIT 20";

/// Something that is looked for.
struct Asked {
    sort: &'static str,
    language: &'static Language,
    words: String,
    /// Whether it is the beginning of a word.
    begins: bool,
}

#[tokio::main]
async fn main() {
    let (world, history) = seeded::seeded().await;
    live::fill(&world, &["feed", "search"]).await;
    let documents = by_hand(&world).await;
    println!("search: {documents} documents");
    let api = world.database.pool(Role::Api).await;
    let viewer = viewer(&history, history.user(u64::from(history.size().users) / 2));
    let (mixed, hot) = (mixed(), words("frequent", |n| 2 * (n / 5) + 1));
    let rows = [
        case("p95", &mixed, &api, &world, viewer).await,
        case("p95 hot", &hot, &api, &world, viewer).await,
    ];
    recall(&api, viewer).await;
    println!("{}", publish("search", &rows).unwrap());
}

/// Tables for SQL by hand, with what the read model knows of words; how many documents there are.
async fn by_hand(world: &World) -> i64 {
    let schema = &registry::live(&world.owner).await.unwrap()["search"];
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE SCHEMA bare;
         CREATE TABLE bare.document AS
            SELECT position, ts_delete(lexemes, ARRAY['=' || language, '@' || (position >> 16)]) AS words FROM {schema}.document;
         CREATE INDEX ON bare.document USING gin (words);
         CREATE INDEX ON bare.document (position DESC);
         CREATE TABLE bare.term AS SELECT term, plain, sum(documents)::bigint AS documents FROM {schema}.term GROUP BY term, plain;
         CREATE INDEX ON bare.term (plain text_pattern_ops);
         ANALYZE bare.document, bare.term;"
    )))
    .execute(&world.owner)
    .await
    .unwrap();
    sqlx::query_scalar("SELECT count(*) FROM bare.document")
        .fetch_one(&world.owner)
        .await
        .unwrap()
}

/// A word each, of the rank that `rank` gives, in all languages in turn.
fn words(sort: &'static str, rank: impl Fn(u64) -> u64) -> Vec<Asked> {
    let numbers = (0..EACH).zip(LANGUAGES.iter().cycle());
    let asked = numbers.map(|(n, language)| Asked {
        sort,
        language,
        words: language.word(rank(n)),
        begins: false,
    });
    asked.collect()
}

fn mixed() -> Vec<Asked> {
    let hot = words("frequent", |n| 2 * (n / 5) + 1);
    let medium = words("middling", |n| 100 + 7 * n);
    let rare = words("rare", |n| 5_000 + 311 * n);
    let mut two = words("two", |n| 2 * (n / 5) + 1);
    for (two, other) in two.iter_mut().zip(&medium) {
        two.words = format!("{} {}", two.words, other.words);
    }
    let mut begin = words("begun", |n| 2 * (50 + 13 * n) + 1);
    for asked in &mut begin {
        asked.words = asked.words.chars().take(3).collect();
        asked.begins = true;
    }
    let mut misspelt = words("misspelt", |n| 101 + 11 * n);
    for asked in &mut misspelt {
        asked.words.remove(2);
    }
    [hot, medium, rare, two, begin, misspelt]
        .into_iter()
        .flatten()
        .collect()
}

type Misspell = fn(&mut Vec<char>);

/// Tells how many words, each misspelt in four ways, are repaired to what was meant.
async fn recall(api: &PgPool, viewer: Viewer) {
    let misspell: [(&str, Misspell); 4] = [
        ("a letter too few", |word| {
            word.remove(word.len() / 2);
        }),
        ("a letter twice", |word| word.insert(2, word[2])),
        ("another first letter", |word| {
            word[0] = if word[0] == 'q' { 'w' } else { 'q' }
        }),
        ("two swapped", |word| {
            let middle = word.len() / 2;
            word.swap(middle - 1, middle);
        }),
    ];
    let meant = words("meant", |n| 20 + 37 * n);
    let meant: Vec<&Asked> = meant
        .iter()
        .filter(|one| one.words.chars().count() > 3)
        .collect();
    for (how, misspell) in misspell {
        let (mut repaired, mut of) = (0, 0);
        for one in &meant {
            let mut letters: Vec<char> = one.words.chars().collect();
            misspell(&mut letters);
            let words: String = letters.into_iter().collect();
            let mut tx = TenantTx::begin(api, viewer.tenant.0, viewer.user.0)
                .await
                .unwrap();
            let search = Search {
                words,
                ..Search::default()
            };
            let found = complete::repaired(&mut tx, viewer, &search).await.unwrap();
            of += 1;
            repaired += i32::from(found.as_ref() == Some(&one.words));
        }
        println!("search: {how}: {repaired} of {of} misspelt words are repaired to what was meant");
    }
}

async fn case(name: &str, asked: &[Asked], api: &PgPool, world: &World, viewer: Viewer) -> Row {
    let (mut ours, mut bare, mut plain) = (vec![], vec![], vec![]);
    let mut owner = world.owner.acquire().await.unwrap();
    // Not counted: what is read first comes from disk.
    search(api, viewer, asked).await;
    for sql in [CAPPED, PLAIN] {
        by(&mut owner, sql, asked).await;
    }
    for _ in 0..ROUNDS {
        let round = (
            search(api, viewer, asked).await,
            by(&mut owner, CAPPED, asked).await,
        );
        by_sort(asked, &round);
        ours.push(p95(round.0));
        bare.push(p95(round.1));
        plain.push(p95(by(&mut owner, PLAIN, asked).await));
    }
    Row {
        case: name.to_owned(),
        unit: "ms",
        ours,
        peer: ("plain ts_rank", Some(plain)),
        ceiling: ("capped ts_rank by hand", Some(bare)),
    }
}

/// How long each takes as the API asks it.
async fn search(api: &PgPool, viewer: Viewer, asked: &[Asked]) -> Vec<Duration> {
    let mut took = vec![];
    for one in asked {
        let begun = Instant::now();
        let mut tx = TenantTx::begin(api, viewer.tenant.0, viewer.user.0)
            .await
            .unwrap();
        if one.begins {
            complete::words(&mut tx, viewer, &one.words, LIMIT)
                .await
                .unwrap();
        } else {
            let search = Search {
                words: one.words.clone(),
                ..Search::default()
            };
            let found = query::search(&mut tx, viewer, &search, None, LIMIT)
                .await
                .unwrap();
            if found.items.is_empty() {
                complete::repaired(&mut tx, viewer, &search).await.unwrap();
            }
        }
        took.push(begun.elapsed());
    }
    took
}

async fn by(owner: &mut PgConnection, sql: &'static str, asked: &[Asked]) -> Vec<Duration> {
    let mut took = vec![];
    for one in asked {
        let begun = Instant::now();
        // Planned with its words, as ours are.
        sqlx::query_as::<_, (i64, f32)>(if one.begins { COMPLETE } else { sql })
            .persistent(false)
            .bind(one.language.configuration)
            .bind(&one.words)
            .fetch_all(&mut *owner)
            .await
            .unwrap();
        took.push(begun.elapsed());
    }
    took
}

/// Prints what each sort of words took, ours and by hand.
fn by_sort(asked: &[Asked], (ours, bare): &(Vec<Duration>, Vec<Duration>)) {
    for some in asked.chunk_by(|one, next| one.sort == next.sort) {
        let of = |took: &[Duration]| {
            let took = took
                .iter()
                .zip(asked)
                .filter(|(_, one)| one.sort == some[0].sort);
            p95(took.map(|(took, _)| *took).collect())
        };
        println!(
            "search: {}: {:.1} ms, by hand {:.1} ms",
            some[0].sort,
            of(ours),
            of(bare)
        );
    }
}

fn p95(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() * 95 / 100].as_secs_f64() * 1_000.0
}
