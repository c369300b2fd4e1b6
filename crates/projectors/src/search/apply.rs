//! Documents from the facts of posts and users; hashtags from what changed in documents.

use std::collections::BTreeMap;

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::{PostEdited, PostPublished, Visibility};
use events::fact::user::ProfileUpdated;
use events::id::{Lane, Position, PostId, StreamKey, TenantId, UserId};
use events::seal::Personal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::query::Kind;
use super::{hashtag_key, language};
use crate::rows::{Row, Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct DocumentRow {
    tenant: TenantId,
    kind: String,
    id: Uuid,
    author: UserId,
    claimed: Option<String>,
    language: String,
    title: Option<String>,
    body: Option<String>,
    place: Option<String>,
    hashtags: Vec<String>,
    public: bool,
    position: Position,
}

/// By hand, because the column `words` makes itself.
impl Row for DocumentRow {
    type Key = (TenantId, String, Uuid);
    const LOAD: &'static str = "SELECT to_jsonb(t) - 'words' FROM jsonb_array_elements($1) k
        JOIN document t ON t.tenant = (k->>0)::uuid AND t.kind = k->>1 AND t.id = (k->>2)::uuid";
    const STORE: &'static str = "INSERT INTO document
            (tenant, kind, id, author, claimed, language, title, body, place, hashtags, public, position)
        SELECT tenant, kind, id, author, claimed, language, title, body, place, hashtags, public, position
        FROM jsonb_populate_recordset(NULL::document, $1)
        ON CONFLICT (tenant, kind, id) DO UPDATE SET
            claimed = EXCLUDED.claimed, language = EXCLUDED.language, title = EXCLUDED.title, body = EXCLUDED.body,
            place = EXCLUDED.place, hashtags = EXCLUDED.hashtags, public = EXCLUDED.public";
    const REMOVE: &'static str = "DELETE FROM document t USING jsonb_array_elements($1) k
        WHERE t.tenant = (k->>0)::uuid AND t.kind = k->>1 AND t.id = (k->>2)::uuid";

    fn key(&self) -> Self::Key {
        (self.tenant, self.kind.clone(), self.id)
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct HashtagRow {
    tenant: TenantId,
    tag: String,
    lane: i16,
    posts: i64,
}

row!(
    HashtagRow in "hashtag", key (tenant: TenantId, tag: String, lane: i16),
    "t.tenant = (k->>0)::uuid AND t.tag = k->>1 AND t.lane = (k->>2)::smallint",
    "ON CONFLICT (tenant, tag, lane) DO UPDATE SET posts = EXCLUDED.posts"
);

/// The document that a fact is about.
fn subject(fact: &Fact) -> Option<(Kind, Uuid)> {
    Some(match fact {
        Fact::PostPublished(fact) => (Kind::Post, fact.post.0),
        Fact::PostEdited(fact) => (Kind::Post, fact.post.0),
        Fact::PostDeleted(fact) => (Kind::Post, fact.post.0),
        Fact::UserRegistered(fact) => (Kind::Person, fact.user.0),
        Fact::ProfileUpdated(fact) => (Kind::Person, fact.user.0),
        Fact::UserErased(fact) => (Kind::Person, fact.user.0),
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    subject(fact).is_some()
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let subjects = batch.iter().filter_map(|recorded| {
        let (kind, id) = subject(&recorded.fact)?;
        Some((recorded, (recorded.tenant, kind.as_str().to_owned(), id)))
    });
    let mut documents = Rows::<DocumentRow>::load(subjects.clone().map(|(_, key)| key), tx).await?;
    for (recorded, key) in subjects {
        fold(recorded, documents.slot(key));
    }
    store(&documents, tx).await
}

pub(super) async fn forget(
    (tenant, author): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let keys: Vec<(String, Uuid)> = sqlx::query_as(
        "SELECT kind, id FROM document WHERE tenant = $1 AND author = $2
             AND (title IS NOT NULL OR body IS NOT NULL OR place IS NOT NULL)",
    )
    .bind(tenant)
    .bind(author)
    .fetch_all(&mut *tx)
    .await?;
    let rows = keys.len() as u64;
    let keys = keys.into_iter().map(|(kind, id)| (tenant, kind, id));
    let mut documents = Rows::<DocumentRow>::load(keys, tx).await?;
    for document in documents.all_mut() {
        (document.title, document.body, document.place) = (None, None, None);
        read(document);
    }
    store(&documents, tx).await?;
    Ok(rows)
}

/// The lane of the facts that a document comes from.
fn lane(document: &DocumentRow) -> Lane {
    let subject = if document.kind == Kind::Post.as_str() {
        StreamKey::post(PostId(document.id)).subject
    } else {
        StreamKey::user(document.author).subject
    };
    Lane::of(document.tenant, &subject)
}

/// Writes documents, and the hashtags that changed with them.
async fn store(documents: &Rows<DocumentRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    let tagged = tagged(documents);
    let mut hashtags = Rows::<HashtagRow>::load(tagged.keys().cloned(), tx).await?;
    for ((tenant, tag, lane), more) in tagged {
        let slot = hashtags.slot((tenant, tag.clone(), lane));
        let posts = slot.as_ref().map_or(0, |hashtag| hashtag.posts) + more;
        *slot = (posts > 0).then_some(HashtagRow {
            tenant,
            tag,
            lane,
            posts,
        });
    }
    documents.store(tx).await?;
    hashtags.store(tx).await
}

/// How many more public posts have each hashtag, by lane.
fn tagged(documents: &Rows<DocumentRow>) -> BTreeMap<<HashtagRow as Row>::Key, i64> {
    let mut tagged = BTreeMap::new();
    for (was, is) in documents.changes() {
        for (document, more) in was
            .map(|was| (was, -1))
            .into_iter()
            .chain(is.map(|is| (is, 1)))
        {
            let lane = lane(document).number();
            for tag in document.hashtags.iter().filter(|_| document.public) {
                *tagged
                    .entry((document.tenant, tag.clone(), lane))
                    .or_insert(0) += more;
            }
        }
    }
    tagged
}

fn fold(recorded: &Recorded, slot: &mut Option<DocumentRow>) {
    match &recorded.fact {
        Fact::PostPublished(fact) => *slot = Some(post(recorded, fact)),
        Fact::UserRegistered(fact) => {
            *slot = Some(blank(recorded, Kind::Person, fact.user.0, fact.user));
        }
        Fact::PostDeleted(_) | Fact::UserErased(_) => *slot = None,
        Fact::PostEdited(fact) => {
            if let Some(document) = slot {
                edit(document, fact);
            }
        }
        Fact::ProfileUpdated(fact) => {
            if let Some(document) = slot {
                update(document, fact);
            }
        }
        _ => {}
    }
    if let Some(document) = slot {
        read(document);
    }
}

fn blank(recorded: &Recorded, kind: Kind, id: Uuid, author: UserId) -> DocumentRow {
    DocumentRow {
        tenant: recorded.tenant,
        kind: kind.as_str().to_owned(),
        id,
        author,
        claimed: None,
        language: String::new(),
        title: None,
        body: None,
        place: None,
        hashtags: vec![],
        public: true,
        position: recorded.position,
    }
}

fn post(recorded: &Recorded, fact: &PostPublished) -> DocumentRow {
    DocumentRow {
        claimed: fact.language.clone(),
        body: fact.text.text().map(str::to_owned),
        place: fact
            .place
            .as_ref()
            .and_then(Personal::text)
            .map(str::to_owned),
        public: fact.visibility == Visibility::Public,
        ..blank(recorded, Kind::Post, fact.post.0, fact.author)
    }
}

fn edit(document: &mut DocumentRow, fact: &PostEdited) {
    replace(&mut document.body, fact.text.as_ref());
    replace(&mut document.place, fact.place.as_ref());
    if let Some(language) = &fact.language {
        document.claimed = Some(language.clone());
    }
    if let Some(visibility) = fact.visibility {
        document.public = visibility == Visibility::Public;
    }
}

fn update(document: &mut DocumentRow, fact: &ProfileUpdated) {
    replace(&mut document.title, fact.name.as_ref());
    replace(&mut document.body, fact.bio.as_ref());
    replace(&mut document.place, fact.place.as_ref());
    if let Some(language) = &fact.language {
        document.claimed = Some(language.clone());
    }
}

fn replace(kept: &mut Option<String>, news: Option<&Personal>) {
    if let Some(news) = news {
        *kept = news.text().map(str::to_owned);
    }
}

/// What follows from a document's texts.
fn read(document: &mut DocumentRow) {
    let body = document.body.as_deref().unwrap_or_default();
    document.hashtags = if document.kind == Kind::Post.as_str() {
        hashtags(body)
    } else {
        vec![]
    };
    language::of_text(document.claimed.as_deref(), body).clone_into(&mut document.language);
}

/// The longest word that counts as a hashtag, characters; an index takes no entry of thousands.
const HASHTAG_MAX: usize = 100;
/// The most hashtags of one post.
const HASHTAGS_MAX: usize = 30;

/// The first words behind a `#`, each once, in the order of the alphabet.
fn hashtags(text: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tags: Vec<String> = text
        .split('#')
        .skip(1)
        .map(|rest| &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())])
        .filter(|tag| (1..=HASHTAG_MAX).contains(&tag.chars().count()))
        .take(HASHTAGS_MAX)
        .map(hashtag_key)
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashtags_are_words_behind_a_hash() {
        assert_eq!(
            hashtags("#Gato, un #perro_1 y #GATO! # nada #"),
            ["gato", "perro_1"]
        );
        assert_eq!(hashtags("sin etiquetas"), Vec::<String>::new());
        assert_eq!(hashtags("#camión#rojo"), ["camión", "rojo"]);
    }

    #[test]
    fn a_hashtag_is_not_a_text() {
        assert_eq!(hashtags(&format!("#{} #gato", "x".repeat(5000))), ["gato"]);
        let many: Vec<String> = (0..2000).map(|n| format!("#{n}")).collect();
        assert_eq!(hashtags(&many.join(" ")).len(), HASHTAGS_MAX);
    }
}
