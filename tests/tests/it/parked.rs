//! A post that a read model cannot take in waits, until somebody says what is to become of it.

use testing::process::Finished;
use testing::wait;

use crate::world::{LIMIT, World, end};

struct Odd {
    world: World,
}

impl Odd {
    /// A feed whose table refuses the first post.
    async fn new() -> Self {
        let mut world = World::new(None, 5).await;
        world.life.go_on(150).await;
        let odd = Self { world };
        odd.run(
            "DO $$ BEGIN
                 EXECUTE format('ALTER TABLE feed_g1.post ADD CONSTRAINT odd CHECK (post <> %L)', (
                     SELECT payload->>'post' FROM log.events WHERE type = 'post.published' ORDER BY position LIMIT 1));
             END $$",
        )
        .await;
        odd
    }

    async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.world.owner).await.unwrap();
    }

    async fn mend(&self) {
        self.run("ALTER TABLE feed_g1.post DROP CONSTRAINT odd")
            .await;
    }

    async fn parked(&self, arguments: &[&str]) -> Finished {
        let command = [&["parked"], arguments].concat();
        self.world.start(&command).finish(LIMIT).await
    }

    async fn list(&self) -> String {
        let listed = self.parked(&["list"]).await;
        assert!(listed.status.success(), "{listed:?}");
        listed.stdout
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_its_table_refuses_is_parked_and_taken_in_once_that_is_mended() {
    let mut odd = Odd::new().await;
    assert_eq!(odd.list().await, "nothing is parked\n");
    let projectors = odd.world.start(&["projectors"]);
    odd.world.caught_up().await;
    odd.world.life.go_on(50).await;
    odd.world.caught_up().await;
    let listed = odd.list().await;
    assert!(listed.starts_with("feed_g1 post-"), "{listed}");
    assert!(
        listed.contains("violates check constraint \"odd\""),
        "{listed}"
    );
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let shown = odd.parked(&["show", "feed_g1"]).await.stdout;
    let first: serde_json::Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(first["type"], "post.published");
    // Nobody calls it a difference: it is known.
    odd.world.is_whole().await;

    let refused = odd.parked(&["retry"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stdout.contains("check constraint"), "{refused:?}");
    odd.mend().await;
    end(projectors).await;
    // Killed between two of its facts, then gone on with.
    let point = [("CINELOG_FAILPOINTS", "subscription.unparked=kill@1")];
    let killed = odd.world.programs.start(&["projectors"], &point);
    let asked = odd.parked(&["retry", "feed_g1", "--wait", "1"]).await;
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    killed.finish(LIMIT).await;
    let projectors = odd.world.start(&["projectors"]);
    wait::until_true(LIMIT, "it is taken in", async || {
        odd.list().await == "nothing is parked\n"
    })
    .await;
    odd.world.settle(projectors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_fact_is_known_to_be_left_out() {
    let odd = Odd::new().await;
    let projectors = odd.world.start(&["projectors"]);
    odd.world.caught_up().await;
    let unnamed = odd.parked(&["drop"]).await;
    assert_eq!(unnamed.status.code(), Some(1), "{unnamed:?}");
    assert!(
        unnamed.stderr.contains("name the subscription"),
        "{unnamed:?}"
    );
    let listed = odd.list().await;
    let subject = listed.split(' ').nth(1).unwrap();
    let dropped = odd.parked(&["drop", "feed_g1", subject]).await;
    assert!(dropped.status.success(), "{dropped:?}");
    assert!(
        dropped.stdout.ends_with("1 of 1 subjects are taken in\n"),
        "{dropped:?}"
    );
    assert_eq!(odd.list().await, "nothing is parked\n");
    odd.world.is_whole().await;
    end(projectors).await;
    assert!(odd.world.shutdown.finish(LIMIT).await);
}
