//! What is read of a read model, filled from the log.

use std::time::Instant;

use cli::bench::History;
use events::id::UserId;
use projectors::config::Config;
use projectors::page::Viewer;
use projectors::registry::{self, Generation};

use crate::filling;
use crate::seeded::projection;
use crate::support::World;

/// Fills what is read of these read models, and tells how fast.
pub(crate) async fn fill(world: &World, names: &[&str]) {
    let config = Config::default();
    let live = registry::live(&world.owner).await.unwrap();
    for name in names {
        let generation = Generation::new(live[*name].clone(), projection(name, &config));
        let begun = Instant::now();
        generation.leave_out(&world.projector).await.unwrap();
        let rate = filling::fill(world, &generation, 2).await;
        generation.make_ready(&world.projector).await.unwrap();
        let all = begun.elapsed().as_secs_f64();
        println!("filled: {name}, {rate:.0} facts a second; {all:.0} s in all");
    }
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::query(sql).execute(&world.owner).await.unwrap();
    }
}

/// Someone who looks.
pub(crate) fn viewer(history: &History, user: UserId) -> Viewer {
    Viewer {
        tenant: history.tenant(),
        user,
    }
}
