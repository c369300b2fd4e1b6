//! A log full of reactions to so many posts, put there past `log.append`, because that is not what is measured.

use sqlx::PgPool;

/// Puts `facts` facts of 300 bytes into the empty log, evenly about `posts` posts.
pub(crate) async fn fill(owner: &PgPool, facts: i64, posts: i64) {
    sqlx::query(
        "INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                 event_id, recorded_at)
         SELECT g, g % $2 % 64, t.tenant, 'reaction-' || post || '-' || one, 1, 'reaction.added', 1, 'post-' || post,
                jsonb_build_object('post', post, 'user', one, 'kind', repeat('x', 186)),
                jsonb_build_object('actor', one, 'command', one), one, now()
         FROM (SELECT tenant FROM log.tenants LIMIT 1) t, generate_series(1, $1) g,
              LATERAL (SELECT md5((g % $2)::text)::uuid AS post, md5('fact ' || g)::uuid AS one) p",
    )
    .bind(facts)
    .bind(posts)
    .execute(owner)
    .await
    .expect("fill the log");
    for sql in ["ANALYZE log.events", "CHECKPOINT"] {
        sqlx::query(sql).execute(owner).await.expect("fill the log");
    }
}
