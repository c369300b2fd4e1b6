//! What is there for someone who asks for something to be done: posts and comments that they may see, people on this side of a
//! block whom no moderator suspended. The streams that say so are read without a lock; what a race lets through is filtered where it is read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::decide::Refusal;
use events::decide::asset::AssetState;
use events::decide::block::{self, BlockState};
use events::decide::comment::CommentState;
use events::decide::follow::FollowState;
use events::decide::post::PostState;
use events::decide::user::UserState;
use events::fact::post::Visibility;
use events::id::{AssetId, CommentId, PostId, StreamKey, TenantId, UserId};
use events::store::Streams;
use moka::future::Cache;
use uuid::Uuid;

use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// The streams that say whether somebody else is there for a user.
pub(super) struct Between {
    blocks: [StreamKey; 2],
    pub(super) other: StreamKey,
    is_other: bool,
    now: DateTime<Utc>,
}

impl Between {
    /// The streams to read besides others.
    pub(super) fn with<'a>(&'a self, others: &[&'a StreamKey]) -> Vec<&'a StreamKey> {
        let own = self.blocks.iter().chain([&self.other]);
        others.iter().copied().chain(own).collect()
    }

    /// Refuses when there is a block, or the other one is suspended, as if `thing` were not there.
    pub(super) fn open(&self, streams: &Streams, thing: &'static str) -> Result<(), Refusal> {
        let other: UserState = streams.get(&self.other);
        if self.is_other && other.may_act(self.now).is_err() {
            return Err(Refusal::NotFound(thing));
        }
        let state = |key| streams.get::<BlockState>(key);
        block::unblocked(self.blocks.each_ref().map(state), thing)
    }
}

/// Authors and assets of posts, which never change: most commands are about posts that others were about a moment ago.
pub(crate) type Posts = Cache<(TenantId, PostId), (UserId, Arc<[AssetId]>)>;

/// The streams that say whether someone may see a post. A post's author and assets never change, so they are known beforehand.
pub(super) struct Sight {
    me: UserId,
    post: StreamKey,
    there: StreamKey,
    back: StreamKey,
    /// None for the author, who sees the post whatever they are.
    assets: Vec<StreamKey>,
    between: Between,
}

impl Sight {
    /// The streams to read besides one's own.
    pub(super) fn with<'a>(&'a self, own: &'a StreamKey) -> Vec<&'a StreamKey> {
        let streams = [own, &self.post, &self.there, &self.back];
        let mut all = self.between.with(&streams);
        all.extend(&self.assets);
        all
    }

    /// The post, when it is there for this viewer.
    pub(super) fn see(&self, streams: &Streams) -> Result<PostState, Refusal> {
        let post: PostState = streams.get(&self.post);
        let author = post.author()?;
        self.between.open(streams, "post")?;
        let follows = |key| streams.get::<FollowState>(key) == FollowState::Following;
        let viewable = |key| streams.get::<AssetState>(key).viewable();
        let shown = || !post.hidden && self.assets.iter().all(viewable);
        let meant = || match post.visibility {
            Visibility::Public => true,
            Visibility::Followers => follows(&self.there),
            Visibility::Mutuals => follows(&self.there) && follows(&self.back),
            Visibility::Private => false,
        };
        if author == self.me || (shown() && meant()) {
            Ok(post)
        } else {
            Err(Refusal::NotFound("post"))
        }
    }
}

/// The streams that say whether someone may see a comment, which they do only where they see its post.
pub(super) struct Remark {
    pub(super) key: StreamKey,
    pub(super) post: PostId,
    between: Between,
    sight: Box<Sight>,
}

impl Remark {
    /// The streams to read besides one's own.
    pub(super) fn with<'a>(&'a self, own: &'a StreamKey) -> Vec<&'a StreamKey> {
        let mut all = self.between.with(&self.sight.with(own));
        all.push(&self.key);
        all
    }

    /// The post that it is on, when that is there for this viewer. Otherwise there is no comment: that there is a post is no matter of
    /// who may not see it.
    pub(super) fn see_post(&self, streams: &Streams) -> Result<PostState, Refusal> {
        let post = self.sight.see(streams);
        post.map_err(|_| Refusal::NotFound("comment"))
    }

    /// The comment, when it is there for this viewer.
    pub(super) fn see(&self, streams: &Streams) -> Result<CommentState, Refusal> {
        self.see_post(streams)?;
        let comment: CommentState = streams.get(&self.key);
        comment.readable_by(self.sight.me)?;
        self.between.open(streams, "comment")?;
        Ok(comment)
    }
}

/// What somebody reacts to or reports, as they may or may not see it.
pub(super) enum Thing {
    Post(Sight),
    Comment(Remark),
}

impl Thing {
    /// The streams to read besides one's own.
    pub(super) fn with<'a>(&'a self, own: &'a StreamKey) -> Vec<&'a StreamKey> {
        match self {
            Self::Post(post) => post.with(own),
            Self::Comment(comment) => comment.with(own),
        }
    }

    /// Whose it is, when it is there for this viewer.
    pub(super) fn author(&self, streams: &Streams) -> Result<UserId, Refusal> {
        match self {
            Self::Post(post) => post.see(streams)?.author(),
            Self::Comment(comment) => comment.see(streams)?.place().map(|(author, _)| author),
        }
    }
}

impl ApiState {
    pub(super) fn between(&self, me: UserId, other: UserId) -> Between {
        Between {
            blocks: [StreamKey::block(me, other), StreamKey::block(other, me)],
            other: StreamKey::user(other),
            is_other: me != other,
            now: self.clock.now(),
        }
    }

    /// A post as its viewer may or may not see it.
    pub(super) async fn sight(&self, who: &Principal, post: PostId) -> Result<Sight, Problem> {
        let key = StreamKey::post(post);
        let fixed = self.posts.try_get_with((who.tenant, post), async {
            let state: PostState = self.peek(who, &key).await?;
            let author = state.author.ok_or(Kind::NotFound("post"))?;
            Ok::<_, Problem>((author, state.assets.into()))
        });
        let (author, assets) = fixed.await.map_err(|problem| Problem::clone(&problem))?;
        let others = assets.iter().filter(|_| author != who.user);
        Ok(Sight {
            me: who.user,
            there: StreamKey::follow(who.user, author),
            back: StreamKey::follow(author, who.user),
            assets: others.copied().map(StreamKey::asset).collect(),
            between: self.between(who.user, author),
            post: key,
        })
    }

    /// A comment as its viewer may or may not see it.
    pub(super) async fn remark(
        &self,
        who: &Principal,
        comment: CommentId,
    ) -> Result<Remark, Problem> {
        // A comment's stream is named by its own id alone; the post decides the lane only.
        let key = StreamKey::comment(comment, PostId(Uuid::nil()));
        let state: CommentState = self.peek(who, &key).await?;
        let (Some(author), Some(post)) = (state.author, state.post) else {
            return Err(Kind::NotFound("comment").into());
        };
        let sight = self.sight(who, post).await;
        Ok(Remark {
            key: StreamKey::comment(comment, post),
            post,
            between: self.between(who.user, author),
            sight: Box::new(sight.map_err(|problem| problem.renamed("post", "comment"))?),
        })
    }
}
