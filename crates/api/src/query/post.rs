//! `GET /posts/{id}`, and posts as every list shows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use events::id::{AssetId, PostId, TenantId, UserId};
use moka::future::Cache;
use projectors::engagement::query as engagement;
use projectors::feed::query as feed;
use projectors::media::query as media;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::asset::RenditionLink;
use super::{Person, Reader, View};
use crate::command::post::VisibilityName;
use crate::command::reaction::ReactionKind;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Posts that all see alike, for as long as many ask for the same one: who may see it is asked each time, how often it was liked is not.
pub(crate) type Hot = Cache<(TenantId, PostId), Arc<Post>>;

/// How old such a post may be.
const HOT: Duration = Duration::from_secs(1);
/// How many there may be.
const HOT_MAX: u64 = 10_000;

/// See [`Hot`].
pub(crate) fn hot() -> Hot {
    Cache::builder()
        .max_capacity(HOT_MAX)
        .time_to_live(HOT)
        .build()
}

/// What a post is read from.
pub(crate) const READS: &[&str] = &["feed", "engagement", "graph", "media", "moderation"];

/// A post.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Post {
    id: Uuid,
    author: Person,
    /// None once the author was erased.
    text: Option<String>,
    place: Option<String>,
    language: Option<String>,
    #[schema(value_type = VisibilityName)]
    visibility: String,
    /// The media it shows, in order.
    assets: Vec<PostAsset>,
    counts: Counts,
    published_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
    /// Whether a moderator hid one's own post from all others.
    hidden: bool,
}

/// An asset in a post.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct PostAsset {
    id: Uuid,
    renditions: Vec<RenditionLink>,
}

/// How much there is under a post or a comment.
#[derive(Clone, Default, Serialize, ToSchema)]
pub(crate) struct Counts {
    comments: i64,
    /// Users who passed it on.
    shares: i64,
    /// How often it was looked at; a little less than that.
    views: i64,
    /// By kind.
    #[schema(value_type = BTreeMap<ReactionKind, i64>)]
    reactions: BTreeMap<String, i64>,
    /// One's own reaction.
    #[schema(value_type = Option<ReactionKind>)]
    mine: Option<String>,
}

impl From<engagement::Counts> for Counts {
    fn from(counts: engagement::Counts) -> Self {
        Self {
            comments: counts.comments,
            shares: counts.shares,
            views: counts.views,
            reactions: counts.reactions,
            mine: counts.mine,
        }
    }
}

/// Read a post
#[utoipa::path(get, path = "/posts/{id}", tag = "posts",
    params(("id" = Uuid, Path)), responses((status = 200, description = "The post", body = Post)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    reader: Reader,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, READS).await?;
    let look = feed::look(&mut view.tx, view.viewer, PostId(id)).await?;
    let look = look.ok_or(Kind::NotFound("post"))?;
    // Who has written reads what they wrote.
    if !look.shared || reader.wrote() {
        let shown = view.shown(PostId(id)).await?;
        return Ok(view.answer(shown));
    }
    let hot = state
        .hot
        .try_get_with((view.viewer.tenant, PostId(id)), async {
            view.shown(PostId(id)).await.map(Arc::new)
        });
    let mut shown = Post::clone(&*hot.await.map_err(|problem| Problem::clone(&problem))?);
    shown.counts.mine = look.mine;
    Ok(view.answer(shown))
}

impl View {
    /// A post that the viewer may see.
    pub(crate) async fn post(&mut self, post: PostId) -> Result<feed::Post, Problem> {
        feed::post(&mut self.tx, self.viewer, post)
            .await?
            .ok_or_else(|| Kind::NotFound("post").into())
    }

    /// A post as it is shown.
    async fn shown(&mut self, post: PostId) -> Result<Post, Problem> {
        let post = self.post(post).await?;
        let shown = self.present(vec![post]).await?.pop();
        shown.ok_or_else(|| Kind::NotFound("post").into())
    }

    /// Posts with the names, media and counts that go with them: four queries, however many posts.
    pub(crate) async fn present(&mut self, posts: Vec<feed::Post>) -> Result<Vec<Post>, Problem> {
        let authors: Vec<UserId> = posts.iter().map(|post| post.author).collect();
        let people = self.people(&authors).await?;
        let ids: Vec<Uuid> = posts.iter().map(|post| post.post.0).collect();
        let mut counts = engagement::counts(&mut self.tx, self.viewer, &ids).await?;
        let assets: Vec<AssetId> = posts
            .iter()
            .flat_map(|post| post.assets.iter().copied())
            .collect();
        let mut renditions: BTreeMap<AssetId, Vec<RenditionLink>> = BTreeMap::new();
        if !assets.is_empty() {
            for rendition in media::renditions(&mut self.tx, self.viewer, &assets).await? {
                renditions
                    .entry(rendition.asset)
                    .or_default()
                    .push(rendition.into());
            }
        }
        let asset = |id: AssetId| {
            // An asset may be in several posts of a page.
            PostAsset {
                id: id.0,
                renditions: renditions.get(&id).cloned().unwrap_or_default(),
            }
        };
        let shown = posts.into_iter().map(|post| Post {
            id: post.post.0,
            author: people.mention(post.author),
            text: post.text,
            place: post.place,
            language: post.language,
            visibility: post.visibility,
            assets: post.assets.into_iter().map(asset).collect(),
            counts: counts.remove(&post.post.0).unwrap_or_default().into(),
            published_at: post.published_at,
            edited_at: post.edited_at,
            hidden: post.hidden,
        });
        Ok(shown.collect())
    }
}
