//! What no command can be quicker than: one connection that inserts whatever waits and commits it, and knows of nothing else.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// As long as a fact.
const PAYLOAD: usize = 300;

type Waiting = (String, oneshot::Sender<()>);

pub(crate) async fn make_table(owner: &PgPool) {
    sqlx::query("CREATE TABLE public.bare (id uuid PRIMARY KEY, payload text NOT NULL)")
        .execute(owner)
        .await
        .unwrap();
}

/// How long each commit took that so many `clients` got within `time`, one row each.
pub(crate) async fn grouped(owner: &PgPool, clients: usize, time: Duration) -> Vec<Duration> {
    let (sender, receiver) = mpsc::channel(clients);
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let sender: mpsc::Sender<Waiting> = sender.clone();
        running.spawn(async move {
            let mut waits = vec![];
            while Instant::now() < until {
                let begun = Instant::now();
                let (done, committed) = oneshot::channel();
                sender.send(("x".repeat(PAYLOAD), done)).await.unwrap();
                committed.await.unwrap();
                waits.push(begun.elapsed());
            }
            waits
        });
    }
    drop(sender);
    let (waits, ()) = tokio::join!(running.join_all(), write(owner, receiver, clients));
    waits.concat()
}

async fn write(owner: &PgPool, mut receiver: mpsc::Receiver<Waiting>, most: usize) {
    let mut connection = owner.acquire().await.unwrap();
    let mut waiting = vec![];
    while receiver.recv_many(&mut waiting, most).await > 0 {
        let (payloads, done): (Vec<String>, Vec<_>) = waiting.drain(..).unzip();
        sqlx::query("INSERT INTO public.bare SELECT gen_random_uuid(), unnest($1::text[])")
            .bind(payloads)
            .execute(&mut *connection)
            .await
            .unwrap();
        for done in done {
            done.send(()).unwrap();
        }
    }
}
