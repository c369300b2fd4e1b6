//! `POST /posts`, `PATCH|DELETE /posts/{id}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use events::decide;
use events::decide::asset::AssetState;
use events::decide::post::PostState;
use events::fact::Fact;
use events::fact::post::{Location, PostEdited, PostPublished, Visibility};
use events::id::{AssetId, PostId, StreamKey};
use events::store::{Emit, Streams};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Asked, AskedWith};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// A post to publish.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Al fin en la playa #verano", "language": "es", "place": "Cádiz", "visibility": "public"}))]
pub(crate) struct NewPost {
    /// What it says; may be empty when there are assets.
    #[garde(length(chars, max = 5000))]
    #[serde(default)]
    #[schema(max_length = 5000)]
    text: String,
    /// Own assets, in the order they are shown.
    #[garde(length(max = 10))]
    #[serde(default)]
    #[schema(max_items = 10)]
    assets: Vec<Uuid>,
    /// The text's language, BCP 47; detected when absent.
    #[garde(inner(custom(super::language_tag)))]
    language: Option<String>,
    /// Where it was written, in words.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    place: Option<String>,
    /// Where it was written, to be found by those who are near.
    #[garde(dive)]
    location: Option<Place>,
    /// Who may see it.
    #[garde(skip)]
    #[serde(default)]
    #[schema(value_type = VisibilityName, default = "public")]
    visibility: Visibility,
}

/// A place on Earth (WGS 84).
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Degrees north.
    #[garde(range(min = -90.0, max = 90.0))]
    #[schema(minimum = -90, maximum = 90)]
    latitude: f64,
    /// Degrees east.
    #[garde(range(min = -180.0, max = 180.0))]
    #[schema(minimum = -180, maximum = 180)]
    longitude: f64,
}

impl Place {
    fn location(&self) -> Option<Location> {
        Location::new(self.latitude, self.longitude)
    }
}

/// What to change; a field left out stays as it is.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Al fin en la playa #verano2026"}))]
pub(crate) struct PostChange {
    /// What it says.
    #[garde(inner(length(chars, min = 1, max = 5000)))]
    text: Option<String>,
    /// Where it was written.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    place: Option<String>,
    /// The text's language.
    #[garde(inner(custom(super::language_tag)))]
    language: Option<String>,
    /// Who may see it.
    #[garde(skip)]
    #[schema(value_type = Option<VisibilityName>)]
    visibility: Option<Visibility>,
}

/// Who may see a post besides its author.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Visibility)]
pub(crate) enum VisibilityName {
    /// Everybody in the tenant.
    Public,
    /// The author's followers.
    Followers,
    /// Followers whom the author follows.
    Mutuals,
    /// Nobody.
    Private,
}

impl From<Visibility> for VisibilityName {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Followers => Self::Followers,
            Visibility::Mutuals => Self::Mutuals,
            Visibility::Private => Self::Private,
        }
    }
}

/// A post that was published.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublishedPost {
    id: Uuid,
    author: Uuid,
    /// None once the author was erased.
    text: Option<String>,
    place: Option<String>,
    language: Option<String>,
    assets: Vec<Uuid>,
    visibility: VisibilityName,
    published_at: DateTime<Utc>,
}

/// Publish a post
#[utoipa::path(post, path = "/posts", tag = "posts", request_body = NewPost,
    responses((status = 201, description = "Published", body = PublishedPost)))]
pub(crate) async fn publish(
    State(state): State<ApiState>,
    AskedWith(asked, new): AskedWith<NewPost>,
) -> Result<Response, Problem> {
    let post = PostId(asked.command.id.derive());
    let key = StreamKey::post(post);
    let assets: Vec<AssetId> = new.assets.into_iter().map(AssetId).collect();
    let asset_keys: Vec<StreamKey> = assets.iter().copied().map(StreamKey::asset).collect();
    let published = PostPublished {
        post,
        author: asked.who.user,
        text: new.text.into(),
        place: new.place.map(Into::into),
        location: new
            .location
            .and_then(|place| place.location())
            .map(|location| location.to_string().into()),
        language: new.language,
        assets,
        visibility: new.visibility,
    };
    let streams: Vec<&StreamKey> = std::iter::once(&key).chain(&asset_keys).collect();
    let decide = |streams: &Streams| {
        let assets: Vec<AssetState> = asset_keys.iter().map(|asset| streams.get(asset)).collect();
        Ok(Emit::all(
            &key,
            decide::post::publish(&streams.get(&key), published.clone(), &assets)?,
        ))
    };
    let done = state.execute(&asked, &streams, decide).await?;
    let body = done.fact(|recorded| match &recorded.fact {
        Fact::PostPublished(post) => Some(PublishedPost {
            id: post.post.0,
            author: post.author.0,
            text: post.text.text().map(ToOwned::to_owned),
            place: post
                .place
                .as_ref()
                .and_then(|place| place.text())
                .map(ToOwned::to_owned),
            language: post.language.clone(),
            assets: post.assets.iter().map(|asset| asset.0).collect(),
            visibility: post.visibility.into(),
            published_at: recorded.recorded_at,
        }),
        _ => None,
    });
    Ok(done.answer(StatusCode::CREATED, body.ok_or(Kind::Internal)?))
}

/// Change a post
#[utoipa::path(patch, path = "/posts/{id}", tag = "posts", request_body = PostChange,
    params(("id" = Uuid, Path)), responses((status = 204, description = "Changed")))]
pub(crate) async fn edit(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, change): AskedWith<PostChange>,
) -> Result<Response, Problem> {
    let key = StreamKey::post(PostId(id));
    let edited = PostEdited {
        post: PostId(id),
        author: asked.who.user,
        text: change.text.map(Into::into),
        place: change.place.map(Into::into),
        language: change.language,
        visibility: change.visibility,
    };
    let sight = state.sight(&asked.who, PostId(id)).await?;
    let decide = |streams: &Streams| {
        sight.see(streams)?;
        Ok(Emit::all(
            &key,
            decide::post::edit(&streams.get(&key), edited.clone())?,
        ))
    };
    Ok(state
        .execute(&asked, &sight.with(&key), decide)
        .await?
        .no_content())
}

/// Take a post away
#[utoipa::path(delete, path = "/posts/{id}", tag = "posts",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Gone")))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (post, me) = (PostId(id), asked.who.user);
    let key = StreamKey::post(post);
    let sight = state.sight(&asked.who, post).await?;
    let decide = |streams: &Streams| {
        let state: PostState = streams.get(&key);
        // Its author may take it away twice; others must not learn of a post that they cannot see.
        if state.author != Some(me) {
            sight.see(streams)?;
        }
        Ok(Emit::all(&key, decide::post::delete(&state, post, me)?))
    };
    Ok(state
        .execute(&asked, &sight.with(&key), decide)
        .await?
        .no_content())
}
