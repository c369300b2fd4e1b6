//! `GET /posts/{id}`, and posts as every list shows them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use events::id::{AssetId, PostId, UserId};
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
    let id = PostId(id);
    // Who has written reads what they wrote.
    if !reader.wrote()
        && let Some(shown) = state.hot.recall(reader.viewer(), id).await
    {
        let age = reader.age(&state, READS).await?;
        return Ok(age.mark(Json(shown).into_response()));
    }
    // Boxed, so that what is remembered costs little.
    Box::pin(ask(&state, reader, id)).await
}

/// The post as the read models have it.
async fn ask(state: &ApiState, reader: Reader, id: PostId) -> Result<Response, Problem> {
    // Before the look: what comes after it must not be missed.
    state.hub().await?;
    let mut view = reader.view(state, READS).await?;
    let look = feed::look(&mut view.tx, view.viewer, id).await?;
    let look = look.ok_or(Kind::NotFound("post"))?;
    if !look.shared || reader.wrote() {
        let shown = view.shown(id).await?;
        return Ok(view.answer(shown));
    }
    let look = (id, look);
    let shown = state.hot.show(view.viewer, look, view.shown(id)).await?;
    Ok(view.answer(shown))
}

impl Post {
    /// Of whom and what it is.
    pub(super) fn concerns(&self) -> impl Iterator<Item = Uuid> {
        let assets = self.assets.iter().map(|asset| asset.id);
        assets.chain([self.id, self.author.id])
    }

    /// The post as somebody sees it who looks at it so.
    pub(super) fn seen(&self, look: feed::Look) -> Self {
        let mut seen = self.clone();
        seen.counts.mine = look.mine;
        seen
    }
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
