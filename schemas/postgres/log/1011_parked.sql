-- Subjects whose facts a subscription cannot take in (ADR 17): they wait, and the rest goes on.
CREATE TABLE subscription.parked (
    subscription text NOT NULL,
    tenant       uuid NOT NULL,
    subject      text NOT NULL,
    lane         smallint NOT NULL,
    error        text NOT NULL,                -- of the first fact that waits
    parked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    wish         text CHECK (wish IN ('retry', 'drop')),
    PRIMARY KEY (subscription, tenant, subject)
);

-- Their facts, in order.
CREATE TABLE subscription.parked_facts (
    subscription text NOT NULL,
    position     bigint NOT NULL,
    tenant       uuid NOT NULL,
    subject      text NOT NULL,
    PRIMARY KEY (subscription, position),
    FOREIGN KEY (subscription, tenant, subject) REFERENCES subscription.parked ON DELETE CASCADE
);
CREATE INDEX parked_facts_subject ON subscription.parked_facts (subscription, tenant, subject, position);

-- Facts that somebody decided to leave out.
CREATE TABLE subscription.dropped (
    subscription text NOT NULL,
    position     bigint NOT NULL,
    tenant       uuid NOT NULL,
    subject      text NOT NULL,
    error        text NOT NULL,
    dropped_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription, position)
);

GRANT SELECT ON subscription.parked, subscription.parked_facts, subscription.dropped TO cinelog_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON subscription.parked, subscription.parked_facts, subscription.dropped
    TO cinelog_projector, cinelog_transcoder;
GRANT SELECT ON subscription.parked_facts TO cinelog_log_owner;

-- A fact that waits is not taken in.
SET LOCAL ROLE cinelog_log_owner;
CREATE OR REPLACE FUNCTION log.behind(new_floor bigint) RETURNS TABLE (subscription text, lanes bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.subscription, count(DISTINCT b.lane)
    FROM (
        SELECT c.subscription, c.lane
        FROM subscription.checkpoints c
        LEFT JOIN log.archived a ON a.lane = c.lane
        WHERE c.position < a.position
           OR EXISTS (
               SELECT FROM log.events e WHERE e.lane = c.lane AND e.position > c.position AND e.position < new_floor)
        UNION ALL
        SELECT p.subscription, e.lane
        FROM subscription.parked_facts p JOIN log.events e USING (position)
        WHERE p.position < new_floor) b
    GROUP BY b.subscription ORDER BY b.subscription
$$;
RESET ROLE;
