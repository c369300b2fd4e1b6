-- How far every subscriber has come: shared by the projectors and the transcoder.
CREATE SCHEMA subscription;
GRANT USAGE ON SCHEMA subscription TO cinelog_api, cinelog_projector, cinelog_transcoder;

-- One row per subscription and lane, there from the subscription's first start. It moves by compare-and-set, first in
-- the transaction that writes what the facts mean.
CREATE TABLE subscription.checkpoints (
    subscription text NOT NULL,
    lane         smallint NOT NULL CHECK (lane BETWEEN 0 AND 63),
    position     bigint NOT NULL DEFAULT 0,
    kafka_offset bigint NOT NULL DEFAULT 0,   -- a hint where to look in the lane's partition, never trusted
    PRIMARY KEY (subscription, lane)
) WITH (fillfactor = 50);

-- Who works on which lane, until when. A lane whose lease ran out may be taken by anyone.
CREATE TABLE subscription.leases (
    subscription text NOT NULL,
    lane         smallint NOT NULL,
    owner        uuid,
    until        timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (subscription, lane)
) WITH (fillfactor = 50);

-- The processes that share a subscription's lanes; each says that it lives.
CREATE TABLE subscription.members (
    subscription text NOT NULL,
    member       uuid NOT NULL,
    until        timestamptz NOT NULL,
    PRIMARY KEY (subscription, member)
);

-- One beat of a member: renews what it has, gives back what is above its fair share of the 64 lanes, takes what is free
-- below it. Returns the lanes it has now. `leaving` gives everything back.
CREATE FUNCTION subscription.hold(for_subscription text, me uuid, lease interval, leaving boolean)
    RETURNS smallint[] LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    share int;
    held  smallint[];
BEGIN
    DELETE FROM subscription.members m
    WHERE m.subscription = for_subscription AND (m.until < clock_timestamp() OR (leaving AND m.member = me));
    IF leaving THEN
        UPDATE subscription.leases SET owner = NULL, until = '-infinity'
        WHERE subscription = for_subscription AND owner = me;
        RETURN '{}';
    END IF;
    INSERT INTO subscription.members AS m (subscription, member, until)
    VALUES (for_subscription, me, clock_timestamp() + lease)
    ON CONFLICT (subscription, member) DO UPDATE SET until = excluded.until;
    SELECT ceil(64.0 / count(*)) INTO share FROM subscription.members m WHERE m.subscription = for_subscription;

    WITH kept AS (
        SELECT l.lane, row_number() OVER (ORDER BY l.lane) <= share AS fair
        FROM subscription.leases l WHERE l.subscription = for_subscription AND l.owner = me
    ), renewed AS (
        UPDATE subscription.leases l
        SET owner = CASE WHEN k.fair THEN me END,
            until = CASE WHEN k.fair THEN clock_timestamp() + lease ELSE '-infinity' END
        FROM kept k WHERE l.subscription = for_subscription AND l.lane = k.lane AND l.owner = me
        RETURNING l.lane, k.fair
    )
    SELECT COALESCE(array_agg(r.lane) FILTER (WHERE r.fair), '{}') INTO held FROM renewed r;

    WITH free AS (
        SELECT l.lane FROM subscription.leases l
        WHERE l.subscription = for_subscription AND l.until < clock_timestamp()
        ORDER BY l.lane LIMIT greatest(share - cardinality(held), 0) FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE subscription.leases l SET owner = me, until = clock_timestamp() + lease
        FROM free f WHERE l.subscription = for_subscription AND l.lane = f.lane
        RETURNING l.lane
    )
    SELECT held || COALESCE(array_agg(t.lane), '{}') INTO held FROM taken t;
    RETURN ARRAY(SELECT unnest(held) ORDER BY 1);
END $$;

GRANT SELECT ON ALL TABLES IN SCHEMA subscription TO cinelog_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA subscription TO cinelog_projector, cinelog_transcoder;
