//! A log that is full already.

use sqlx::PgPool;

/// Puts `facts` facts of 300 bytes into the empty log, each with its stream and its command, past `log.append` because
/// that is not what is measured.
pub(crate) async fn fill(owner: &PgPool, facts: i64) {
    sqlx::query(
        "WITH t AS (SELECT tenant FROM log.tenants LIMIT 1)
         INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                 event_id, recorded_at)
         SELECT g, g % 64, t.tenant, 'reaction-' || post || '-' || post, 1, 'reaction.added', 1, 'post-' || post,
                jsonb_build_object('post', post, 'user', post, 'kind', repeat('x', 186)),
                jsonb_build_object('actor', post, 'command', post), post, now()
         FROM t, generate_series(1, $1) g, LATERAL (SELECT md5(g::text)::uuid AS post) p",
    )
    .bind(facts)
    .execute(owner)
    .await
    .expect("fill the log");
    for sql in [
        "INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
         SELECT tenant, stream_id, subject, lane, version, payload - 'post' - 'user' FROM log.events",
        "INSERT INTO log.commands (id, body_hash, first_position, last_position)
         SELECT gen_random_uuid(), sha256(''), position, position FROM log.events",
        "ANALYZE log.events, log.streams, log.commands",
        // What was filled in is on disk before anything is measured.
        "CHECKPOINT",
    ] {
        sqlx::query(sql).execute(owner).await.expect("fill the log");
    }
}
