//! The feed kept true by this process, as `cinelog projectors feed` keeps it.

use std::sync::Arc;

use events::log::Kafka;
use events::source::Source;
use events::store::{Wake, bounds};
use events::subscription::{Options, Runner};
use projectors::config::Config;
use projectors::feed::Feed;
use projectors::registry::{self, Generation};
use service::shutdown::Shutdown;

use crate::support::{World, keys};

/// Keeps it true until `shutdown`, from the topic where there is one.
pub(crate) async fn keep(
    world: &World,
    config: &Config,
    kafka: Option<&Kafka>,
    shutdown: &Shutdown,
) {
    let name = registry::live(&world.owner).await.unwrap()["feed"].clone();
    let log_id = bounds(&world.projector).await.unwrap().log_id;
    let wake = Wake::start(world.projector.clone(), shutdown);
    let source = Source::open(kafka, &world.projector, &wake, log_id, &name).unwrap();
    let generation = Arc::new(Generation::new(name, Arc::new(Feed::new(config))));
    let pool = world.projector.clone();
    let runner = Runner::new(generation, pool, source, keys(), Options::default());
    let end = shutdown.clone();
    shutdown.spawn(async move { runner.run(&end).await });
}
