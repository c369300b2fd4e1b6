//! A read model, filled by hand.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Instant;

use events::id::{Lane, Position};
use events::store::{Reader, bounds};
use events::subscription::{self, Subscriber};

use crate::support::{World, keys};

/// Fills `subscriber` with what of the log it lacks; facts a second, those among them that it does not care for.
pub(crate) async fn fill(world: &World, subscriber: &dyn Subscriber, writers: u16) -> f64 {
    let head = bounds(&world.projector).await.unwrap().head;
    let upto = Lane::all().map(|lane| (lane, head)).collect();
    let mut connection = world.projector.acquire().await.unwrap();
    let at = subscription::positions(&mut connection, subscriber.name())
        .await
        .unwrap();
    let before = at.into_values().max().unwrap_or(Position::START);
    drop(connection);
    let begun = Instant::now();
    subscription::fill(
        subscriber,
        &world.projector,
        &mut Reader::from(&world.projector),
        &keys(),
        (&upto, &BTreeSet::new()),
        NonZeroU16::new(writers).unwrap(),
        &|_| {},
    )
    .await
    .unwrap();
    (head.0 - before.0) as f64 / begun.elapsed().as_secs_f64()
}
