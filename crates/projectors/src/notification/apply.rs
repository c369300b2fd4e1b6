//! Notices from the facts under a post, which all have the post's lane, and from the facts of a pair; what is muted from
//! the facts of a user.

use std::collections::{BTreeMap, BTreeSet};

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::user::NoticeKind;
use events::id::{CommentId, PostId, TenantId, UserId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::pair;
use super::row::{BundleRow, CommentRow, MutedRow, NoticeRow, PostRow};
use crate::rows::{Row, Rows};

/// Notices that a batch makes, or takes back.
pub(super) type News = BTreeMap<<NoticeRow as Row>::Key, Option<NoticeRow>>;

pub(super) fn handles(fact: &Fact) -> bool {
    pair::handles(fact)
        || matches!(
            fact,
            Fact::PostPublished(_)
                | Fact::CommentAdded(_)
                | Fact::CommentDeleted(_)
                | Fact::ReactionAdded(_)
                | Fact::ReactionRemoved(_)
                | Fact::PreferenceSet(_)
        )
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let mut authors = Authors::load(batch, tx).await?;
    let mut news = News::new();
    for recorded in batch {
        authors.fold(recorded, &mut news);
        pair::fold(recorded, &mut news);
    }
    authors.posts.store(tx).await?;
    authors.comments.store(tx).await?;
    let mut notices = Rows::<NoticeRow>::load(news.keys().copied(), tx).await?;
    for (key, notice) in news {
        *notices.slot(key) = notice;
    }
    notices.store(tx).await?;
    bundle(&notices, tx).await?;
    mute(batch, tx).await
}

/// Says something, or takes it back. Nobody is told of their own doing.
pub(super) fn tell(news: &mut News, notice: NoticeRow, done: bool) {
    if notice.owner != notice.actor {
        news.insert(notice.key(), done.then_some(notice));
    }
}

/// Who wrote what.
struct Authors {
    posts: Rows<PostRow>,
    comments: Rows<CommentRow>,
}

impl Authors {
    async fn load(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<Self> {
        let (mut posts, mut comments) = (BTreeSet::new(), BTreeSet::new());
        for Recorded { tenant, fact, .. } in batch {
            let (post, those) = match fact {
                Fact::PostPublished(fact) => (fact.post, [None; 2]),
                Fact::CommentAdded(fact) => (fact.post, [Some(fact.comment), fact.parent]),
                Fact::CommentDeleted(fact) => (fact.post, [Some(fact.comment), None]),
                Fact::ReactionAdded(fact) => (fact.post, [fact.comment, None]),
                Fact::ReactionRemoved(fact) => (fact.post, [fact.comment, None]),
                _ => continue,
            };
            posts.insert((*tenant, post));
            comments.extend(those.into_iter().flatten().map(|one| (*tenant, one)));
        }
        Ok(Self {
            posts: Rows::load(posts, tx).await?,
            comments: Rows::load(comments, tx).await?,
        })
    }

    fn fold(&mut self, recorded: &Recorded, news: &mut News) {
        let tenant = recorded.tenant;
        match &recorded.fact {
            Fact::PostPublished(fact) => {
                let (post, author) = (fact.post, fact.author);
                *self.posts.slot((tenant, post)) = Some(PostRow {
                    tenant,
                    post,
                    author,
                });
            }
            Fact::CommentAdded(fact) => {
                let parent = fact.parent.and_then(|parent| self.wrote(tenant, parent));
                let comment = CommentRow {
                    tenant,
                    comment: fact.comment,
                    author: fact.author,
                    parent: fact.parent,
                    answered: parent,
                    deleted: false,
                };
                self.commented(recorded, fact.post, &comment, news);
                let slot = self.comments.slot(comment.key());
                *slot = Some(comment);
            }
            Fact::CommentDeleted(fact) => {
                if let Some(comment) = self.comments.get_mut((tenant, fact.comment)) {
                    comment.deleted = true;
                    let comment = comment.clone();
                    self.commented(recorded, fact.post, &comment, news);
                }
            }
            Fact::ReactionAdded(fact) => {
                self.reacted(recorded, (fact.post, fact.comment), fact.user, true, news);
            }
            Fact::ReactionRemoved(fact) => {
                self.reacted(recorded, (fact.post, fact.comment), fact.user, false, news);
            }
            _ => {}
        }
    }

    /// Tells the author of the comment that is answered, and the post's, each once; or takes it back.
    fn commented(
        &mut self,
        recorded: &Recorded,
        post: PostId,
        comment: &CommentRow,
        news: &mut News,
    ) {
        let about = |owner, kind, target| NoticeRow {
            post: Some(post),
            source: comment.comment.0,
            ..NoticeRow::of(recorded, owner, kind, target, comment.author)
        };
        if let (Some(owner), Some(parent)) = (comment.answered, comment.parent) {
            let notice = about(owner, NoticeKind::Reply, parent.0);
            tell(news, notice, !comment.deleted);
        }
        let author = self.published(recorded.tenant, post);
        if let Some(owner) = author.filter(|owner| comment.answered != Some(*owner)) {
            let notice = about(owner, NoticeKind::Comment, post.0);
            tell(news, notice, !comment.deleted);
        }
    }

    fn reacted(
        &mut self,
        recorded: &Recorded,
        (post, comment): (PostId, Option<CommentId>),
        actor: UserId,
        done: bool,
        news: &mut News,
    ) {
        let (owner, target) = match comment {
            Some(comment) => (self.wrote(recorded.tenant, comment), comment.0),
            None => (self.published(recorded.tenant, post), post.0),
        };
        if let Some(owner) = owner {
            let notice = NoticeRow {
                post: Some(post),
                ..NoticeRow::of(recorded, owner, NoticeKind::Reaction, target, actor)
            };
            tell(news, notice, done);
        }
    }

    fn published(&mut self, tenant: TenantId, post: PostId) -> Option<UserId> {
        self.posts.get_mut((tenant, post)).map(|post| post.author)
    }

    fn wrote(&mut self, tenant: TenantId, comment: CommentId) -> Option<UserId> {
        let comment = self.comments.get_mut((tenant, comment));
        comment.map(|comment| comment.author)
    }
}

/// Makes the bundles of the notices that changed what the notices say, which are written already.
async fn bundle(notices: &Rows<NoticeRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    let touched = notices.changes().filter_map(|(was, is)| was.or(is));
    let touched: BTreeSet<_> = touched.map(NoticeRow::bundle).collect();
    if touched.is_empty() {
        return Ok(());
    }
    let filled: Vec<Json<BundleRow>> = sqlx::query_scalar(
        "SELECT to_jsonb(n) - 'position' - 'actor' - 'source' || jsonb_build_object('newest', n.position)
        FROM jsonb_array_elements($1) k
        CROSS JOIN LATERAL (
            SELECT n.* FROM notice n
            WHERE n.tenant = (k->>0)::uuid AND n.owner = (k->>1)::uuid AND n.kind = k->>2
              AND n.target = (k->>3)::uuid AND n.lane = (k->>4)::smallint
            ORDER BY n.position DESC LIMIT 1
        ) n",
    )
    .bind(Json(&touched))
    .fetch_all(&mut *tx)
    .await?;
    let mut bundles = Rows::<BundleRow>::load(touched, tx).await?;
    bundles.remove(|_| true);
    for Json(bundle) in filled {
        let slot = bundles.slot(bundle.key());
        *slot = Some(bundle);
    }
    bundles.store(tx).await
}

async fn mute(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let set = batch.iter().filter_map(|recorded| match &recorded.fact {
        Fact::PreferenceSet(fact) => Some((recorded.tenant, fact)),
        _ => None,
    });
    let keys = set
        .clone()
        .map(|(tenant, fact)| (tenant, fact.user, fact.kind));
    let mut muted = Rows::<MutedRow>::load(keys, tx).await?;
    for (tenant, fact) in set {
        let (owner, kind) = (fact.user, fact.kind);
        *muted.slot((tenant, owner, kind)) = (!fact.on).then_some(MutedRow {
            tenant,
            owner,
            kind,
        });
    }
    muted.store(tx).await
}
