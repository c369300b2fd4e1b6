//! Of two processes of projectors under load, one is killed again and again: the other takes its lanes.

use std::time::{Duration, Instant};

use events::subscription::lag;
use sqlx::PgPool;
use testing::report::tell;
use testing::wait;
use tokio::time::sleep;

use crate::world::{World, end};

/// Between two kills.
const EVERY: Duration = Duration::from_secs(10);
/// After a kill, lag must be small again within this time.
const RECOVERED: Duration = Duration::from_secs(10);
/// Lanes have moved by then.
const TAKEN: Duration = Duration::from_secs(5);
/// Small.
const SMALL: Duration = Duration::from_secs(1);

/// For so long: three minutes with LONG=1.
fn kills() -> u32 {
    match testing::environment::optional("LONG") {
        Some(_) => 18,
        None => 2,
    }
}

/// The age of the oldest fact that some read model has not taken in.
async fn behind(owner: &PgPool) -> Duration {
    let lags = lag(&mut owner.acquire().await.unwrap()).await.unwrap();
    lags.into_iter()
        .map(|lag| lag.behind)
        .max()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_is_killed_again_and_again_and_nothing_is_lost() {
    let mut world = World::new(None, 21).await;
    let (owner, programs) = (world.owner.clone(), world.programs.clone());
    let mut processes = [world.start(&["projectors"]), world.start(&["projectors"])];
    let killer = async {
        for kill in 0..kills() {
            let began = Instant::now();
            let victim = &mut processes[kill as usize % 2];
            victim.kill();
            *victim = programs.start(&["projectors"], &[]);
            // Whoever was killed had lanes: their facts wait for the lease to end. Until then lag may still be small, and grow.
            sleep(TAKEN).await;
            wait::until_true(
                RECOVERED.saturating_sub(TAKEN),
                "lag is small again",
                async || behind(&owner).await < SMALL,
            )
            .await;
            tell(format_args!(
                "kill {kill}: lag is small again after {:?}",
                began.elapsed()
            ));
            sleep(EVERY.saturating_sub(began.elapsed())).await;
        }
    };
    let life = &mut world.life;
    let load = async {
        loop {
            life.go_on(1).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = killer => {}
        () = load => unreachable!("it goes on"),
    }
    let [one, other] = processes;
    world.life.go_on(20).await;
    world.caught_up().await;
    end(one).await;
    world.settle(other).await;
}
