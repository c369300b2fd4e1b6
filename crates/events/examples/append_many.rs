//! Appends reactions from many writers at once: `append_many DATABASE_URL WRITERS FACTS_EACH NAME`.
//!
//! Every writer reacts to its own post and, every few facts, to one that all writers share, so that commands meet. The
//! laws' test starts it in several processes, and kills some.

use anyhow::Context;
use events::decide::reaction;
use events::fact::post::ReactionAdded;
use events::id::{CommandId, PostId, StreamKey, UserId};
use events::seal::Key;
use events::store::{Command, Emit, Keys, Log};
use service::db::{Role, connect};
use service::secret::Secret;
use service::shutdown::Shutdown;
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, url, writers, each, name] = &std::env::args().collect::<Vec<_>>()[..] else {
        anyhow::bail!("usage: append_many DATABASE_URL WRITERS FACTS_EACH NAME");
    };
    let (writers, each): (u128, u128) = (writers.parse()?, each.parse()?);
    let shutdown = Shutdown::new();
    let pool = connect(&Secret::new(url), Role::Api, 8).await?;
    let log = Log::open(pool, Keys::new(Key::from_bytes([7; 32])), &shutdown).await?;
    let tasks =
        (0..writers).map(|writer| shutdown.spawn(write(log.clone(), name.clone(), writer, each)));
    for task in futures::future::join_all(tasks).await {
        task.context("a writer died")??;
    }
    Ok(())
}

async fn write(log: Log, name: String, writer: u128, each: u128) -> anyhow::Result<()> {
    let tenant = log.default_tenant().await?;
    let user = UserId::of(&name, &writer.to_string());
    for n in 0..each {
        let shared = n % 4 == 0;
        let actor = if shared {
            UserId(Uuid::from_u128(1))
        } else {
            user
        };
        let post = PostId(if shared { Uuid::from_u128(1) } else { user.0 });
        let id = CommandId {
            tenant,
            actor,
            route: "bench".to_owned(),
            key: format!("{name}-{writer}-{n}"),
        };
        let command = Command {
            id,
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let stream = StreamKey::post_reaction(post, actor);
        let kind = reaction::KINDS[usize::try_from((n + writer) % 6)?].to_owned();
        let wanted = ReactionAdded {
            post,
            comment: None,
            user: actor,
            kind,
        };
        let decide = |streams: &events::store::Streams| {
            Ok(Emit::all(
                &stream,
                reaction::react(&streams.get(&stream), wanted.clone(), Ok(()))?,
            ))
        };
        // Losing every race for the shared stream is no failure of the log.
        match log
            .execute(&command, std::slice::from_ref(&stream), decide)
            .await
        {
            Ok(_) | Err(events::store::ExecuteError::Contended) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
