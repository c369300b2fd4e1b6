//! Reading the log for ever and keeping something true of it: what projectors and the transcoder share.
//!
//! A subscriber's lanes are leased among processes; each lane's checkpoint moves by compare-and-set, first in the
//! transaction that applies the facts. So every fact has its effect exactly once, whatever source it came from and
//! however many processes believed the lane was theirs.

mod apply;
mod checkpoint;
mod fill;
mod lag;
mod lease;
mod overview;
mod park;
mod react;
mod runner;

use futures::future::BoxFuture;
use sqlx::PgConnection;

pub use apply::{ApplyError, begin};
pub(crate) use checkpoint::ahead;
pub use checkpoint::{held, level, positions, reached};
pub use fill::{FillError, fill};
pub use lag::{Lag, lag, watch_lag};
pub use overview::{Backlog, LaneBacklog, Waiting, backlogs, newest_parked, reads_topic};
pub use park::{Parked, Wish, inherit, left_out, parked, retry_all, waiting, wish};
pub use react::{ReactError, Reactor};
pub use runner::{Options, Runner};

use crate::envelope::Recorded;
use crate::fact::Fact;

/// Something that facts have an effect on.
pub trait Subscriber: Send + Sync + 'static {
    /// Its name among the checkpoints, e.g. `feed_g1`.
    fn name(&self) -> &str;

    /// The schema that [`Subscriber::apply`] finds its tables in, when it has one of its own.
    fn schema(&self) -> Option<&str> {
        None
    }

    /// Whether it begins with the log's first fact, and not with what comes after its own first start.
    fn replays(&self) -> bool {
        true
    }

    /// Whether it cares for a fact.
    fn handles(&self, fact: &Fact) -> bool;

    /// Takes facts in. A batch is any cut of the lanes' facts; each lane's are in order. All of it, and the checkpoint,
    /// take effect together or not at all.
    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>>;
}
