//! A log that is full already.

use sqlx::PgPool;

/// Puts `facts` facts of 300 bytes into the empty log, past `log.append` because that is not what is measured.
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
    sqlx::query("ANALYZE log.events")
        .execute(owner)
        .await
        .expect("analyze the log");
}
