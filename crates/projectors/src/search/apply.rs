//! Documents from the facts of posts, users and assets; hashtags and terms from what changed in documents.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::asset::UploadRequested;
use events::fact::post::{PostEdited, PostPublished, Visibility};
use events::fact::user::ProfileUpdated;
use events::id::{AssetId, Lane, Position, PostId, StreamKey, TenantId, UserId};
use events::seal::Personal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::query::Kind;
use super::{language, text};
use crate::hashtag;
use crate::rows::{Row, Rows, Tally, row, tally};

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
    grams: Option<String>,
    hashtags: Vec<String>,
    public: bool,
    position: Position,
    at: DateTime<Utc>,
}

/// By hand, because some columns make themselves.
impl Row for DocumentRow {
    type Key = (TenantId, String, Uuid);
    const LOAD: &'static str = "SELECT to_jsonb(t) - 'lexemes' FROM jsonb_array_elements($1) k
        JOIN document t ON t.tenant = (k->>0)::uuid AND t.kind = k->>1 AND t.id = (k->>2)::uuid";
    const STORE: &'static str = "INSERT INTO document
            (tenant, kind, id, author, claimed, language, title, body, place, grams, hashtags, public, position, at)
        SELECT tenant, kind, id, author, claimed, language, title, body, place, grams, hashtags, public, position, at
        FROM jsonb_populate_recordset(NULL::document, $1)
        ON CONFLICT (tenant, kind, id) DO UPDATE SET
            claimed = EXCLUDED.claimed, language = EXCLUDED.language, title = EXCLUDED.title, body = EXCLUDED.body,
            place = EXCLUDED.place, grams = EXCLUDED.grams, hashtags = EXCLUDED.hashtags, public = EXCLUDED.public";
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

impl Tally for HashtagRow {
    fn of((tenant, tag, lane): Self::Key, posts: i64) -> Self {
        Self {
            tenant,
            tag,
            lane,
            posts,
        }
    }

    fn count(&self) -> i64 {
        self.posts
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct TermRow {
    tenant: TenantId,
    term: String,
    lane: i16,
    documents: i64,
}

/// By hand, because a column makes itself.
impl Row for TermRow {
    type Key = (TenantId, String, i16);
    const LOAD: &'static str = "SELECT to_jsonb(t) FROM jsonb_array_elements($1) k
        JOIN term t ON t.tenant = (k->>0)::uuid AND t.term = k->>1 AND t.lane = (k->>2)::smallint";
    const STORE: &'static str = "INSERT INTO term (tenant, term, lane, documents)
        SELECT tenant, term, lane, documents FROM jsonb_populate_recordset(NULL::term, $1)
        ON CONFLICT (tenant, term, lane) DO UPDATE SET documents = EXCLUDED.documents";
    const REMOVE: &'static str = "DELETE FROM term t USING jsonb_array_elements($1) k
        WHERE t.tenant = (k->>0)::uuid AND t.term = k->>1 AND t.lane = (k->>2)::smallint";

    fn key(&self) -> Self::Key {
        (self.tenant, self.term.clone(), self.lane)
    }
}

impl Tally for TermRow {
    fn of((tenant, term, lane): Self::Key, documents: i64) -> Self {
        Self {
            tenant,
            term,
            lane,
            documents,
        }
    }

    fn count(&self) -> i64 {
        self.documents
    }
}

/// The document that a fact is about.
fn subject(fact: &Fact) -> Option<(Kind, Uuid)> {
    Some(match fact {
        Fact::PostPublished(fact) => (Kind::Post, fact.post.0),
        Fact::PostEdited(fact) => (Kind::Post, fact.post.0),
        Fact::PostDeleted(fact) => (Kind::Post, fact.post.0),
        Fact::UploadRequested(fact) => (Kind::Asset, fact.asset.0),
        Fact::UploadExpired(fact) => (Kind::Asset, fact.asset.0),
        Fact::UploadAborted(fact) => (Kind::Asset, fact.asset.0),
        Fact::AssetDeleted(fact) => (Kind::Asset, fact.asset.0),
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
    let subject = match &*document.kind {
        "post" => StreamKey::post(PostId(document.id)).subject,
        "asset" => StreamKey::asset(AssetId(document.id)).subject,
        _ => StreamKey::user(document.author).subject,
    };
    Lane::of(document.tenant, &subject)
}

/// Writes documents, and counts the hashtags and the words of public ones.
async fn store(documents: &Rows<DocumentRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    documents.store(tx).await?;
    let hashtags = |document: &DocumentRow| in_public(document, document.hashtags.clone());
    tally::<HashtagRow, _, _>(documents, hashtags, tx).await?;
    let terms = |document: &DocumentRow| {
        let texts = [&document.title, &document.body].into_iter().flatten();
        let terms: BTreeSet<String> = texts.flat_map(|text| text::terms(text)).collect();
        in_public(document, terms)
    };
    tally::<TermRow, _, _>(documents, terms, tx).await
}

/// Where `parts` of a document are counted: in its lane if all may see it, else nowhere.
fn in_public(
    document: &DocumentRow,
    parts: impl IntoIterator<Item = String>,
) -> Vec<(TenantId, String, i16)> {
    let lane = lane(document).number();
    let parts = parts.into_iter().filter(|_| document.public);
    parts.map(|part| (document.tenant, part, lane)).collect()
}

fn fold(recorded: &Recorded, slot: &mut Option<DocumentRow>) {
    match &recorded.fact {
        Fact::PostPublished(fact) => *slot = Some(post(recorded, fact)),
        Fact::UploadRequested(fact) => *slot = Some(asset(recorded, fact)),
        Fact::UserRegistered(fact) => {
            *slot = Some(blank(recorded, Kind::Person, fact.user.0, fact.user));
        }
        Fact::PostDeleted(_)
        | Fact::UserErased(_)
        | Fact::UploadExpired(_)
        | Fact::UploadAborted(_)
        | Fact::AssetDeleted(_) => *slot = None,
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
        grams: None,
        hashtags: vec![],
        public: true,
        position: recorded.position,
        at: recorded.recorded_at,
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

/// Only its owner finds it.
fn asset(recorded: &Recorded, fact: &UploadRequested) -> DocumentRow {
    DocumentRow {
        title: fact.file_name.text().map(str::to_owned),
        public: false,
        ..blank(recorded, Kind::Asset, fact.asset.0, fact.owner)
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
        hashtag::of_text(body)
    } else {
        vec![]
    };
    language::of_text(document.claimed.as_deref(), body).clone_into(&mut document.language);
    let texts = [&document.title, &document.body, &document.place];
    document.grams = text::grams(texts.into_iter().flatten().map(String::as_str));
}
