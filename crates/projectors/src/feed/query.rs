//! Posts as a viewer may see them: one by one, by author, and as a feed.

use chrono::{DateTime, Utc};
use events::fact::post::Location;
use events::id::{AssetId, Position, PostId, UserId};
use serde::Serialize;
use service::db::TenantTx;

use super::near;
use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["feed", "graph", "moderation"];

/// A post that the viewer may see.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Post {
    /// Its id.
    pub post: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// What it says; none once its author was erased.
    pub text: Option<String>,
    /// Where it was written, in words.
    pub place: Option<String>,
    /// The language that the author named.
    pub language: Option<String>,
    /// `public`, `followers`, `mutuals` or `private`.
    pub visibility: String,
    /// What it shows, in order.
    pub assets: Vec<AssetId>,
    /// Its place in the log and in every feed.
    pub position: Position,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// When it was last changed.
    pub edited_at: Option<DateTime<Utc>>,
    /// Whether a moderator hid it, so that only the viewer, its author, sees it.
    pub hidden: bool,
}

impl Post {
    fn cursor(&self) -> Cursor {
        Cursor {
            position: self.position,
            id: self.post.0,
        }
    }
}

/// The columns of a [`Post`], of the table `p`. What the viewer sees of others' is not hidden.
macro_rules! columns {
    () => {
        "p.post, p.author, p.text, p.place, p.language, p.visibility, p.assets, p.position, p.published_at, p.edited_at,
            p.author = $2 AND EXISTS (
                SELECT FROM moderation.hidden h WHERE h.tenant = $1 AND h.target = p.post) AS hidden"
    };
}

/// Whether the post `p` of the tenant $1 may be seen by $2, or by another parameter. The one place that says so.
macro_rules! visible {
    () => {
        visible!("$2")
    };
    ($viewer:literal) => {
        concat!(
            "(p.author = ",
            $viewer,
            " OR (
            CASE p.visibility
                WHEN 'public' THEN true
                WHEN 'followers' THEN EXISTS (
                    SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = ",
            $viewer,
            " AND f.followee = p.author)
                WHEN 'mutuals' THEN EXISTS (
                    SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = ",
            $viewer,
            " AND f.followee = p.author)
                    AND EXISTS (
                    SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = p.author AND f.followee = ",
            $viewer,
            ")
                ELSE false
            END
            AND NOT EXISTS (
                SELECT FROM unnest(p.assets) AS carried
                WHERE NOT EXISTS (SELECT FROM feed.viewable v WHERE v.tenant = $1 AND v.asset = carried))
            AND NOT EXISTS (SELECT FROM moderation.hidden h WHERE h.tenant = $1 AND h.target = p.post)
            AND ",
            $crate::moderation::query::unsuspended!("p.author"),
            " AND ",
            $crate::graph::query::unblocked!($viewer, "p.author"),
            "))"
        )
    };
}
pub(crate) use visible;

/// Whether the viewer, $2, wants an author in the feed; a muted one's posts show everywhere else. A list that is read once, and
/// no join, which would lead the planner away from reading entries in their order.
macro_rules! unmuted {
    ($author:literal) => {
        concat!(
            $author,
            " NOT IN (SELECT m.other FROM graph.mute m WHERE m.tenant = $1 AND m.owner = $2)"
        )
    };
}

/// One post, if the viewer may see it.
pub async fn post(tx: &mut TenantTx, viewer: Viewer, post: PostId) -> sqlx::Result<Option<Post>> {
    Ok(posts(tx, viewer, &[post]).await?.pop())
}

/// Those of `posts` that the viewer may see, newest first.
pub async fn posts(tx: &mut TenantTx, viewer: Viewer, posts: &[PostId]) -> sqlx::Result<Vec<Post>> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM feed.post p WHERE p.tenant = $1 AND p.post = ANY($3) AND ",
        visible!(),
        " ORDER BY p.position DESC"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(posts)
    .fetch_all(&mut **tx)
    .await
}

/// Those of `posts` that are in the viewer's feed: own ones, and those of followed authors who are not muted.
pub(super) async fn wanted(
    tx: &mut TenantTx,
    viewer: Viewer,
    posts: &[PostId],
) -> sqlx::Result<Vec<Post>> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM feed.post p WHERE p.tenant = $1 AND p.post = ANY($3)
            AND (p.author = $2 OR EXISTS (
                SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = $2 AND f.followee = p.author))
            AND ",
        unmuted!("p.author"),
        " AND ",
        visible!()
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(posts)
    .fetch_all(&mut **tx)
    .await
}

/// Since when each of `posts` is there to be seen as it is: the position of the fact by which its visibility was set, or the last of
/// what it shows had something to look at.
pub async fn shown_since(
    tx: &mut TenantTx,
    viewer: Viewer,
    posts: &[PostId],
) -> sqlx::Result<Vec<Position>> {
    // As JSON, because tables of the version before, which are read until those of this one are filled, do not have these columns.
    sqlx::query_scalar(
        "SELECT GREATEST(p.position, (to_jsonb(p)->>'shown')::bigint, (
            SELECT max((to_jsonb(v)->>'position')::bigint) FROM feed.viewable v
            WHERE v.tenant = $1 AND v.asset = ANY(p.assets)))
        FROM feed.post p WHERE p.tenant = $1 AND p.post = ANY($2)",
    )
    .bind(viewer.tenant)
    .bind(posts)
    .fetch_all(&mut **tx)
    .await
}

/// What of a post depends on who looks.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Look {
    /// Whether all others see the same of it.
    pub shared: bool,
    /// The viewer's own reaction.
    pub mine: Option<String>,
}

/// How the viewer sees a post, if at all.
pub async fn look(tx: &mut TenantTx, viewer: Viewer, post: PostId) -> sqlx::Result<Option<Look>> {
    sqlx::query_as(concat!(
        "SELECT p.visibility = 'public' AND p.author <> $2 AS shared,
            (SELECT r.kind FROM engagement.reaction r WHERE r.tenant = $1 AND r.target = $3 AND r.\"user\" = $2) AS mine
        FROM feed.post p WHERE p.tenant = $1 AND p.post = $3 AND ",
        visible!()
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(post)
    .fetch_optional(&mut **tx)
    .await
}

/// What `author` published, as far as the viewer may see it, newest first.
pub async fn by_author(
    tx: &mut TenantTx,
    viewer: Viewer,
    author: UserId,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Post>> {
    let posts = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM feed.post p WHERE p.tenant = $1 AND p.author = $3 AND p.position < $4 AND ",
        visible!(),
        " ORDER BY p.position DESC LIMIT $5"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(author)
    .bind(below(after))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(posts, limit, Post::cursor))
}

/// So many posts of the cells around a place are looked at for a page.
const WINDOW: i64 = 250;

/// Posts within `radius` metres of a place that the viewer may see, newest first. A page may be short and yet not the last.
pub async fn nearby(
    tx: &mut TenantTx,
    viewer: Viewer,
    (here, radius): (Location, f64),
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Post>> {
    let around: Vec<(PostId, Position, f64, f64)> = sqlx::query_as(
        "SELECT n.post, n.position, n.latitude, n.longitude
        FROM unnest($2::text[]) AS c(cell)
        CROSS JOIN LATERAL (
            SELECT n.* FROM feed.near n
            WHERE n.tenant = $1 AND n.cell = c.cell AND n.position < $3
            ORDER BY n.position DESC LIMIT $4
        ) n
        ORDER BY n.position DESC LIMIT $4",
    )
    .bind(viewer.tenant)
    .bind(near::cells(here, radius))
    .bind(below(after))
    .bind(WINDOW)
    .fetch_all(&mut **tx)
    .await?;
    let edge = around
        .last()
        .filter(|_| around.len() == usize::try_from(WINDOW).unwrap_or(usize::MAX))
        .map(|(post, position, ..)| Cursor {
            position: *position,
            id: post.0,
        });
    let within = around
        .into_iter()
        .filter_map(|(post, _, latitude, longitude)| {
            let there = Location::new(latitude, longitude)?;
            (near::distance(here, there) <= radius).then_some(post)
        });
    let within: Vec<PostId> = within.collect();
    let mut page = Page::cut(posts(tx, viewer, &within).await?, limit, Post::cursor);
    page.next = page.next.or(edge);
    Ok(page)
}

/// The viewer's feed, newest first: own posts and those of followed authors. Read from the entries kept ready, from
/// authors too widely followed for that, and below the floor of the entries from the posts themselves.
pub async fn page(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Post>> {
    let wanted = i64::from(limit) + 1;
    let mut posts = ready(tx, viewer, below(after), wanted).await?;
    // The floor only ever rises: when it is zero now, it was when the entries were read.
    if posts.len() <= limit as usize && floor(tx, viewer).await? > Position::START {
        let from = posts
            .last()
            .map_or(below(after), |post: &Post| post.position);
        let left = wanted - i64::try_from(posts.len()).unwrap_or(wanted);
        posts.extend(pull(tx, viewer, from, left).await?);
    }
    Ok(Page::cut(posts, limit, Post::cursor))
}

/// The same feed without the cache: what [`page`] must equal.
pub async fn pull_page(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Post>> {
    let posts = pull(tx, viewer, below(after), i64::from(limit) + 1).await?;
    Ok(Page::cut(posts, limit, Post::cursor))
}

/// The feed above its floor, in one statement: floor and entries must be of one snapshot.
async fn ready(
    tx: &mut TenantTx,
    viewer: Viewer,
    below: Position,
    limit: i64,
) -> sqlx::Result<Vec<Post>> {
    sqlx::query_as(concat!(
        "WITH bottom AS MATERIALIZED (
            SELECT coalesce((SELECT r.floor FROM feed.reader r WHERE r.tenant = $1 AND r.owner = $2), 0) AS floor
        )
        (SELECT ",
        columns!(),
        " FROM feed.feed_entry e
            JOIN feed.post p ON p.tenant = $1 AND p.position = e.position
            WHERE e.tenant = $1 AND e.owner = $2 AND e.position < $3 AND e.position > (SELECT floor FROM bottom)
              AND EXISTS (
                SELECT FROM feed.follow f WHERE f.tenant = $1 AND f.follower = $2 AND f.followee = p.author)
              AND ",
        unmuted!("p.author"),
        " AND ",
        visible!(),
        " ORDER BY e.position DESC LIMIT $4)
        UNION
        (SELECT ",
        columns!(),
        " FROM (
                SELECT $2::uuid AS author
                UNION ALL
                SELECT f.followee FROM feed.follow f
                JOIN feed.author a ON a.tenant = $1 AND a.author = f.followee AND a.pulled
                WHERE f.tenant = $1 AND f.follower = $2 AND ",
        unmuted!("f.followee"),
        "
            ) direct
            CROSS JOIN LATERAL (
                SELECT p.* FROM feed.post p
                WHERE p.tenant = $1 AND p.author = direct.author AND p.position < $3
                  AND p.position > (SELECT floor FROM bottom) AND ",
        visible!(),
        " ORDER BY p.position DESC LIMIT $4
            ) p
            ORDER BY p.position DESC LIMIT $4)
        ORDER BY position DESC LIMIT $4"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await
}

async fn floor(tx: &mut TenantTx, viewer: Viewer) -> sqlx::Result<Position> {
    let floor =
        sqlx::query_scalar("SELECT floor FROM feed.reader WHERE tenant = $1 AND owner = $2")
            .bind(viewer.tenant)
            .bind(viewer.user)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(floor.unwrap_or(Position::START))
}

/// The feed from the posts themselves, author by author, so that each author's newest are an index's first rows.
async fn pull(
    tx: &mut TenantTx,
    viewer: Viewer,
    below: Position,
    limit: i64,
) -> sqlx::Result<Vec<Post>> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM (
            SELECT $2::uuid AS author
            UNION ALL
            SELECT f.followee FROM feed.follow f WHERE f.tenant = $1 AND f.follower = $2 AND ",
        unmuted!("f.followee"),
        "
        ) direct
        CROSS JOIN LATERAL (
            SELECT p.* FROM feed.post p
            WHERE p.tenant = $1 AND p.author = direct.author AND p.position < $3 AND ",
        visible!(),
        " ORDER BY p.position DESC LIMIT $4
        ) p
        ORDER BY p.position DESC LIMIT $4"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await
}
