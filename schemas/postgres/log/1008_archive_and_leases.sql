-- Facts that leave for the archive: the floor moves first, in one transaction with what is remembered of them; their
-- partition goes in a later one. So whoever reads sees either the facts or the floor above them.
GRANT USAGE ON SCHEMA subscription TO cinelog_log_owner;
GRANT SELECT ON subscription.checkpoints TO cinelog_log_owner;
SET LOCAL ROLE cinelog_log_owner;

-- The last archived fact of each lane. A subscription that has not come so far is told so, and never fooled by an empty
-- table; the relay finds the fact that its marker names.
CREATE TABLE log.archived (
    lane     smallint PRIMARY KEY CHECK (lane BETWEEN 0 AND 63),
    position bigint NOT NULL,
    event_id uuid NOT NULL
);
GRANT SELECT ON log.archived TO cinelog_api, cinelog_projector, cinelog_transcoder;

-- The partitions: from `first` to just before `next`.
CREATE FUNCTION log.partitions() RETURNS TABLE (partition regclass, first bigint, next bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass,
           substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$FROM \('?(\d+)'?\)$re$)::bigint,
           substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('?(\d+)'?\)$re$)::bigint
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'log.events'::regclass
    ORDER BY 2
$$;
CREATE OR REPLACE FUNCTION log.room() RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(max(next), 1) FROM log.partitions()
$$;

-- Subscriptions that have not taken in all before `new_floor`, each with the number of such lanes.
CREATE FUNCTION log.behind(new_floor bigint) RETURNS TABLE (subscription text, lanes bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.subscription, count(*)
    FROM subscription.checkpoints c
    LEFT JOIN log.archived a ON a.lane = c.lane
    WHERE c.position < a.position
       OR EXISTS (SELECT FROM log.events e WHERE e.lane = c.lane AND e.position > c.position AND e.position < new_floor)
    GROUP BY c.subscription ORDER BY c.subscription
$$;

-- Moves the floor to the end of a partition. Moves it only up, and never above the log's last fact: the next one is
-- numbered and dated after it.
CREATE FUNCTION log.move_floor(new_floor bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_floor bigint;
BEGIN
    SELECT l.floor INTO old_floor FROM log.log l FOR UPDATE;
    IF new_floor <= old_floor THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM log.partitions() p WHERE p.next = new_floor)
       OR NOT EXISTS (SELECT FROM log.events e WHERE e.position >= new_floor) THEN
        RAISE EXCEPTION 'the floor cannot be %: a partition must end there and a fact must follow', new_floor;
    END IF;
    IF EXISTS (SELECT FROM log.behind(new_floor)) THEN
        RAISE EXCEPTION 'a subscription has not taken in all facts before %', new_floor USING ERRCODE = 'object_in_use';
    END IF;
    INSERT INTO log.archived AS a (lane, position, event_id)
    SELECT u.lane, e.position, e.event_id
    FROM generate_series(0, 63) AS u(lane)
    CROSS JOIN LATERAL (
        SELECT e.position, e.event_id FROM log.events e
        WHERE e.lane = u.lane AND e.position >= old_floor AND e.position < new_floor ORDER BY e.position DESC LIMIT 1
    ) e
    ON CONFLICT (lane) DO UPDATE SET position = excluded.position, event_id = excluded.event_id;
    UPDATE log.log SET floor = new_floor;
END $$;

-- Takes the first partition that lies below the floor out of the log, and drops it unless it is to be kept as a table of
-- its own. Returns its name; null when there is none. Everybody else waits while it works, which is short, but it has to
-- wait for everybody's running statements first: call it with a lock_timeout.
CREATE FUNCTION log.detach_archived(keep boolean) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
BEGIN
    SELECT p.partition::text INTO name FROM log.partitions() p, log.log l WHERE p.next <= l.floor ORDER BY p.first LIMIT 1;
    IF name IS NOT NULL THEN
        EXECUTE format('ALTER TABLE log.events DETACH PARTITION %s', name);
        IF NOT keep THEN
            EXECUTE format('DROP TABLE %s', name);
        END IF;
    END IF;
    RETURN name;
END $$;

REVOKE ALL ON FUNCTION log.behind, log.move_floor, log.detach_archived FROM PUBLIC;
RESET ROLE;

-- Leases that cost nothing while nothing changes: a lane has an owner, and a lane whose owner does not live is free. That
-- it lives, a member says in one row.
ALTER TABLE subscription.leases DROP COLUMN until;

-- One beat of a member: says that it lives, gives back what is above its fair share of the 64 lanes, takes what is free
-- below it. Returns the lanes it has now. `leaving` gives everything back; so does a beat that comes too late, for others
-- may have taken lanes since. Two that believe to have the same lane for a moment do no harm: checkpoints move by
-- compare-and-set.
CREATE OR REPLACE FUNCTION subscription.hold(for_subscription text, me uuid, lease interval, leaving boolean)
    RETURNS smallint[] LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    share int;
    held  smallint[];
BEGIN
    -- A beat that a crash of the server loses is as good as one that was late.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE subscription.members m SET until = clock_timestamp() + lease
    WHERE m.subscription = for_subscription AND m.member = me AND m.until >= clock_timestamp() AND NOT leaving;
    IF NOT FOUND THEN
        UPDATE subscription.leases l SET owner = NULL WHERE l.subscription = for_subscription AND l.owner = me;
        DELETE FROM subscription.members m
        WHERE m.subscription = for_subscription AND (m.member = me OR m.until < clock_timestamp());
        IF leaving THEN
            RETURN '{}';
        END IF;
        INSERT INTO subscription.members AS m (subscription, member, until)
        VALUES (for_subscription, me, clock_timestamp() + lease)
        ON CONFLICT (subscription, member) DO UPDATE SET until = excluded.until;
    END IF;
    SELECT ceil(64.0 / greatest(count(*), 1)) INTO share
    FROM subscription.members m WHERE m.subscription = for_subscription AND m.until >= clock_timestamp();
    SELECT COALESCE(array_agg(l.lane ORDER BY l.lane), '{}') INTO held
    FROM subscription.leases l WHERE l.subscription = for_subscription AND l.owner = me;

    IF cardinality(held) > share THEN
        UPDATE subscription.leases l SET owner = NULL
        WHERE l.subscription = for_subscription AND l.owner = me AND l.lane = ANY (held[share + 1:]);
        held := held[:share];
    ELSIF cardinality(held) < share THEN
        WITH free AS (
            SELECT l.lane FROM subscription.leases l
            WHERE l.subscription = for_subscription AND l.owner IS DISTINCT FROM me AND NOT EXISTS (
                SELECT FROM subscription.members m
                WHERE m.subscription = l.subscription AND m.member = l.owner AND m.until >= clock_timestamp())
            ORDER BY l.lane LIMIT share - cardinality(held) FOR UPDATE OF l SKIP LOCKED
        ), taken AS (
            UPDATE subscription.leases l SET owner = me
            FROM free f WHERE l.subscription = for_subscription AND l.lane = f.lane
            RETURNING l.lane
        )
        SELECT held || COALESCE(array_agg(t.lane), '{}') INTO held FROM taken t;
    END IF;
    RETURN ARRAY(SELECT unnest(held) ORDER BY 1);
END $$;
