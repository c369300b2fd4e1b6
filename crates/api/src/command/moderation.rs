//! `POST /posts/{id}/reports`, the same on comments, and `POST /moderation/{hide,restore,suspend}`.

use axum::extract::{Path, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use events::decide;
use events::decide::comment::CommentState;
use events::decide::post::PostState;
use events::decide::{Decision, Refusal};
use events::fact::post::{ContentHidden, ContentRestored, Reason, ReportFiled};
use events::fact::user::{AccountRestored, AccountSuspended};
use events::id::{CommentId, PostId, StreamKey, UserId};
use events::store::{Emit, Streams};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::sight::Thing;
use super::{Asked, AskedWith};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Why something should not be seen.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Reason)]
pub(crate) enum ReasonName {
    Spam,
    Harassment,
    Hate,
    Violence,
    Sexual,
    Illegal,
    Other,
}

impl From<ReasonName> for Reason {
    fn from(name: ReasonName) -> Self {
        match name {
            ReasonName::Spam => Self::Spam,
            ReasonName::Harassment => Self::Harassment,
            ReasonName::Hate => Self::Hate,
            ReasonName::Violence => Self::Violence,
            ReasonName::Sexual => Self::Sexual,
            ReasonName::Illegal => Self::Illegal,
            ReasonName::Other => Self::Other,
        }
    }
}

/// What is wrong with a post or a comment.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "spam", "text": "The same under every post"}))]
pub(crate) struct NewReport {
    #[garde(skip)]
    reason: ReasonName,
    /// The same in one's own words; only moderators read it.
    #[garde(inner(length(chars, min = 1, max = 1000)))]
    #[schema(min_length = 1, max_length = 1000)]
    text: Option<String>,
}

/// What to hide: a post or a comment.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"post": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a", "reason": "spam"}))]
pub(crate) struct Hide {
    #[garde(skip)]
    post: Option<Uuid>,
    #[garde(skip)]
    comment: Option<Uuid>,
    #[garde(skip)]
    reason: ReasonName,
}

/// What to restore: a post, a comment or a user.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"post": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a"}))]
pub(crate) struct Restore {
    #[garde(skip)]
    post: Option<Uuid>,
    #[garde(skip)]
    comment: Option<Uuid>,
    #[garde(skip)]
    user: Option<Uuid>,
}

/// Whom to suspend.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a", "until": "2030-01-01T00:00:00Z", "reason": "harassment"}))]
pub(crate) struct Suspend {
    #[garde(skip)]
    user: Uuid,
    /// Until when; until it is lifted, when absent.
    #[garde(skip)]
    until: Option<DateTime<Utc>>,
    #[garde(skip)]
    reason: ReasonName,
}

/// Report a post
///
/// Once per user; a second report changes nothing.
#[utoipa::path(post, path = "/posts/{id}/reports", tag = "moderation", request_body = NewReport,
    params(("id" = Uuid, Path)), responses((status = 204, description = "Moderators will look at it")))]
pub(crate) async fn report_post(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, new): AskedWith<NewReport>,
) -> Result<Response, Problem> {
    let post = PostId(id);
    let sight = state.sight(&asked.who, post).await?;
    report(&state, &asked, new, (post, None), Thing::Post(sight)).await
}

/// Report a comment
///
/// Once per user; a second report changes nothing.
#[utoipa::path(post, path = "/comments/{id}/reports", tag = "moderation", request_body = NewReport,
    params(("id" = Uuid, Path)), responses((status = 204, description = "Moderators will look at it")))]
pub(crate) async fn report_comment(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, new): AskedWith<NewReport>,
) -> Result<Response, Problem> {
    let comment = CommentId(id);
    let remark = state.remark(&asked.who, comment).await?;
    let place = (remark.post, Some(comment));
    report(&state, &asked, new, place, Thing::Comment(remark)).await
}

async fn report(
    state: &ApiState,
    asked: &Asked,
    new: NewReport,
    (post, comment): (PostId, Option<CommentId>),
    thing: Thing,
) -> Result<Response, Problem> {
    let reporter = asked.who.user;
    let key = match comment {
        Some(comment) => StreamKey::comment_report(comment, post, reporter),
        None => StreamKey::post_report(post, reporter),
    };
    let filed = ReportFiled {
        post,
        comment,
        reporter,
        reason: new.reason.into(),
        text: new.text.map(Into::into),
    };
    let decide = |streams: &Streams| {
        let author = thing.author(streams);
        let facts = decide::moderation::report(&streams.get(&key), filed.clone(), author)?;
        Ok(Emit::all(&key, facts))
    };
    let streams = thing.with(&key);
    Ok(state.execute(asked, &streams, decide).await?.no_content())
}

/// Hide a post or a comment
///
/// For the role moderator. Nobody but its author sees it any more; the reports of it are closed.
#[utoipa::path(post, path = "/moderation/hide", tag = "moderation", request_body = Hide,
    responses((status = 204, description = "Hidden")))]
pub(crate) async fn hide(
    State(state): State<ApiState>,
    AskedWith(asked, hide): AskedWith<Hide>,
) -> Result<Response, Problem> {
    asked.who.must_moderate()?;
    let target = Target::of(&state, &asked, hide.post, hide.comment).await?;
    let wanted = ContentHidden {
        post: target.post,
        comment: target.comment,
        by: asked.who.user,
        reason: hide.reason.into(),
    };
    target
        .change(&state, &asked, |hidden| {
            decide::moderation::hide(hidden, wanted.clone())
        })
        .await
}

/// Restore a post, a comment or a user
///
/// For the role moderator. Content is seen again, and the reports of it are closed, also when it was not hidden; a user's
/// suspension is lifted.
#[utoipa::path(post, path = "/moderation/restore", tag = "moderation", request_body = Restore,
    responses((status = 204, description = "Restored")))]
pub(crate) async fn restore(
    State(state): State<ApiState>,
    AskedWith(asked, restore): AskedWith<Restore>,
) -> Result<Response, Problem> {
    asked.who.must_moderate()?;
    let by = asked.who.user;
    match restore {
        Restore {
            user: Some(user),
            post: None,
            comment: None,
        } => lift(&state, &asked, UserId(user)).await,
        Restore {
            user: None,
            post,
            comment,
        } => {
            let target = Target::of(&state, &asked, post, comment).await?;
            let wanted = ContentRestored {
                post: target.post,
                comment: target.comment,
                by,
            };
            target
                .change(&state, &asked, |hidden| {
                    decide::moderation::restore(hidden, wanted.clone())
                })
                .await
        }
        Restore { .. } => Err(one_target("/user")),
    }
}

/// Suspend a user
///
/// For the role moderator. A suspended user changes nothing, and is not there for others: who it is, what they posted and said, and
/// whom they like show to nobody else. `POST /moderation/restore` lifts it.
#[utoipa::path(post, path = "/moderation/suspend", tag = "moderation", request_body = Suspend,
    responses((status = 204, description = "Suspended")))]
pub(crate) async fn suspend(
    State(state): State<ApiState>,
    AskedWith(asked, suspend): AskedWith<Suspend>,
) -> Result<Response, Problem> {
    asked.who.must_moderate()?;
    let key = StreamKey::user(UserId(suspend.user));
    let wanted = AccountSuspended {
        user: UserId(suspend.user),
        by: asked.who.user,
        until: suspend.until,
        reason: suspend.reason.into(),
    };
    let now = state.clock.now();
    let decide = |streams: &Streams| {
        let facts = decide::moderation::suspend(&streams.get(&key), wanted.clone(), now)?;
        Ok(Emit::all(&key, facts))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}

async fn lift(state: &ApiState, asked: &Asked, user: UserId) -> Result<Response, Problem> {
    let key = StreamKey::user(user);
    let wanted = AccountRestored {
        user,
        by: asked.who.user,
    };
    let decide = |streams: &Streams| {
        let facts = decide::moderation::lift(&streams.get(&key), wanted.clone())?;
        Ok(Emit::all(&key, facts))
    };
    Ok(state.execute(asked, &[&key], decide).await?.no_content())
}

fn one_target(pointer: &str) -> Problem {
    Problem::field(Kind::Invalid, pointer, "one target is needed, and no more")
}

/// What a moderator acts on.
struct Target {
    post: PostId,
    comment: Option<CommentId>,
    key: StreamKey,
}

impl Target {
    async fn of(
        state: &ApiState,
        asked: &Asked,
        post: Option<Uuid>,
        comment: Option<Uuid>,
    ) -> Result<Self, Problem> {
        let (post, comment) = match (post, comment.map(CommentId)) {
            (Some(post), None) => (PostId(post), None),
            (None, Some(comment)) => (state.remark(&asked.who, comment).await?.post, Some(comment)),
            _ => return Err(one_target("/post")),
        };
        let key = match comment {
            Some(comment) => StreamKey::comment(comment, post),
            None => StreamKey::post(post),
        };
        Ok(Self { post, comment, key })
    }

    /// Decides over whether it is hidden.
    async fn change(
        &self,
        state: &ApiState,
        asked: &Asked,
        mut decide: impl FnMut(Result<bool, Refusal>) -> Decision + Send,
    ) -> Result<Response, Problem> {
        let decide = |streams: &Streams| {
            let hidden = match self.comment {
                Some(_) => streams.get::<CommentState>(&self.key).is_hidden(),
                None => streams.get::<PostState>(&self.key).is_hidden(),
            };
            Ok(Emit::all(&self.key, decide(hidden)?))
        };
        let done = state.execute(asked, &[&self.key], decide).await?;
        Ok(done.no_content())
    }
}
