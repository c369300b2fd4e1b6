//! What all queries share: who looks, and pages by keyset.

use events::id::{Position, TenantId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// On whose behalf a query runs. It must be the one that the transaction was opened for: row level security holds
/// whatever is passed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The tenant whose rows are read.
    pub tenant: TenantId,
    /// Who looks.
    pub user: UserId,
}

/// Where a page ended: the next one begins behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Position of the last item's fact.
    pub position: Position,
    /// Id of the last item.
    pub id: Uuid,
}

/// Some items of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T, C = Cursor> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where to go on; none at the end of the list.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// A page of at most `limit` of `items`, which were asked for with one more to know whether there is a next page.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> C) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

/// The position below which a list read from its newest end goes on.
pub(crate) fn below(after: Option<Cursor>) -> Position {
    after.map_or(Position(i64::MAX), |cursor| cursor.position)
}

/// The position above which a list read from its oldest end goes on.
pub(crate) fn above(after: Option<Cursor>) -> Position {
    after.map_or(Position::START, |cursor| cursor.position)
}
