//! `GET /assets/{id}/live`. Every event is the asset as it stands, so a client that missed some has missed nothing.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::response::sse::Event;
use events::id::{AssetId, TenantId, UserId};
use projectors::media::query::READS;
use service::slots::Slot;
use uuid::Uuid;

use crate::live::{self, events};
use crate::problem::Problem;
use crate::query::Reader;
use crate::query::asset::Asset;
use crate::state::ApiState;

/// How often the read model is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Follow an asset while it is rendered
///
/// An `asset` event for each change, with the asset as it stands as its data, so that who comes back has missed nothing; an event's id
/// is a position up to which everything is in it. The stream ends when nothing more will come, or with the token.
#[utoipa::path(get, path = "/assets/{id}/live", tag = "assets",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = Asset)))]
pub(crate) async fn follow(
    State(state): State<ApiState>,
    reader: Reader,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let asset = AssetId(id);
    // Before the stream begins an error can still be a problem.
    reader.view(&state, READS).await?.asset(asset).await?;
    let place = live::place(&state, reader.who())?;
    let (own, who) = (state.clone(), reader.who.clone());
    let watch = Watch {
        _place: place,
        state,
        reader,
        asset,
        last: String::new(),
        settled: false,
    };
    Ok(events(&own, &who, watch))
}

struct Watch {
    /// Held as long as the stream is.
    _place: Slot<(TenantId, UserId)>,
    state: ApiState,
    reader: Reader,
    asset: AssetId,
    last: String,
    settled: bool,
}

impl Watch {
    async fn look(&self) -> Result<Asset, Problem> {
        let mut view = self.reader.view(&self.state, &[]).await?;
        view.asset(self.asset).await
    }
}

impl live::Watch for Watch {
    /// The next change; none at the end of the asset's way, or of the read model's patience: clients come again by themselves.
    async fn next(&mut self) -> Option<Event> {
        // Asked before anything is read, so that an id never says too much.
        let level = self.state.level("media").await.ok()?;
        while !self.settled {
            let asset = {
                let _turn = live::turn(&self.state.watching).await.ok()?;
                // In a box of its own: looking takes much room, and most of the time it only waits.
                Box::pin(self.look()).await.ok()?
            };
            let now = serde_json::to_string(&asset).ok()?;
            self.settled = asset.settled();
            if now != self.last {
                let event = Event::default().event("asset").id(level.to_string());
                let event = event.data(&now);
                self.last = now;
                return Some(event);
            }
            if !self.settled {
                tokio::time::sleep(EVERY).await;
            }
        }
        None
    }
}
