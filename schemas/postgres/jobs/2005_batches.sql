-- A worker with several free slots claims for all of them at once.

-- The places in front among those of `classes` and `profiles`, without the owners in `passed`: of the level in front, one of each
-- owner, and `most` of them.
DROP FUNCTION jobs.front(smallint[], text[], uuid[]);
CREATE FUNCTION jobs.front(classes smallint[], profiles text[], passed uuid[], most int) RETURNS SETOF jobs.turns
    LANGUAGE sql STABLE
    BEGIN ATOMIC
        WITH places AS (
            SELECT t.*
            FROM unnest(classes) AS c(class)
            CROSS JOIN unnest(profiles) AS p(profile)
            CROSS JOIN LATERAL (
                SELECT * FROM jobs.turns t
                WHERE t.class = c.class AND t.profile = p.profile AND t.owner <> ALL (passed)
                ORDER BY t.level, t.tag, t.asked_on LIMIT most) t)
        SELECT * FROM (
            SELECT DISTINCT ON (owner) * FROM places
            WHERE level = (SELECT min(level) FROM places)
            ORDER BY owner, tag, asked_on) firsts
        ORDER BY tag, asked_on LIMIT most;
    END;

-- The oldest job of a place in line. Its owner goes to the end of the line; a place without another job goes altogether. Null:
-- all its jobs are gone, or others hold them. Under the lock of the line.
CREATE OR REPLACE FUNCTION jobs.take(turn jobs.turns, aged timestamptz) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    taken uuid;
    rest timestamptz;
    place bigint;
BEGIN
    WITH oldest AS MATERIALIZED (
        SELECT job_id FROM jobs.jobs
        WHERE state = 'queued' AND ready AND class = turn.class AND profile = turn.profile AND owner = turn.owner
        ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    SELECT o.job_id, r.asked_on INTO taken, rest
    FROM (SELECT (SELECT job_id FROM oldest)) AS o(job_id)
    LEFT JOIN LATERAL (
        SELECT asked_on FROM jobs.jobs
        WHERE state = 'queued' AND ready AND class = turn.class AND profile = turn.profile AND owner = turn.owner
            AND job_id IS DISTINCT FROM o.job_id
        ORDER BY asked_at LIMIT 1) r ON true;
    IF rest IS NULL THEN
        DELETE FROM jobs.turns t WHERE t.owner = turn.owner AND t.class = turn.class AND t.profile = turn.profile;
    END IF;
    IF taken IS NOT NULL THEN
        place := nextval('jobs.tags');
        UPDATE jobs.turns t
        SET tag = place,
            asked_on = CASE WHEN (t.class, t.profile) = (turn.class, turn.profile) THEN rest ELSE t.asked_on END,
            level = CASE WHEN (t.class, t.profile) = (turn.class, turn.profile) AND rest >= aged THEN t.class ELSE t.level END
        WHERE t.owner = turn.owner
            AND (t.level = turn.level OR (t.class, t.profile) = (turn.class, turn.profile));
    END IF;
    RETURN taken;
END $$;

-- Takes the next jobs of class `wanted` (null: of any) with a profile of `known`, at most `most`: first those whose worker went
-- silent, then the oldest of each owner in front. While another waits, nobody has more than half of all slots. Its statements are
-- planned once, and only for indexes: plans that were made while the tables were small would read all of them for ever.
CREATE FUNCTION jobs.claim(wanted smallint, known text[], most int, lease interval, age interval) RETURNS SETOF jobs.jobs
    LANGUAGE plpgsql
    SET jit TO off SET enable_seqscan TO off SET enable_bitmapscan TO off SET enable_sort TO off
    SET plan_cache_mode TO force_generic_plan AS $$
DECLARE
    moment timestamptz;
    classes smallint[] := CASE WHEN wanted IS NULL THEN '{0,1,2,3}' ELSE ARRAY[wanted] END;
    share int;
    full_share boolean := false;
    passed uuid[] := '{}';
    turn jobs.turns;
    taken uuid;
    batch uuid[];
BEGIN
    -- A claim is a lease: a crash that undoes it leaves a worker whose token is not there.
    PERFORM set_config('synchronous_commit', 'off', true), jobs.lock_line();
    moment := clock_timestamp();
    IF EXISTS (SELECT FROM jobs.jobs WHERE state = 'queued' AND NOT ready AND not_before <= moment) THEN
        PERFORM jobs.ripen(moment, 100);
    END IF;
    UPDATE jobs.turns SET level = 1, tag = nextval('jobs.tags') WHERE level > 1 AND asked_on < moment - age;
    batch := ARRAY(
        SELECT job_id FROM jobs.jobs
        WHERE state = 'running' AND lease_until < moment AND class = ANY (classes) AND profile = ANY (known)
        ORDER BY lease_until LIMIT most FOR UPDATE SKIP LOCKED);
    SELECT greatest(1, sum(slots) / 2) INTO share FROM jobs.workers WHERE until > moment;
    LOOP
        IF batch <> '{}' THEN
            RETURN QUERY
                UPDATE jobs.jobs j
                SET state = 'running', ready = false, token = gen_random_uuid(), attempts = attempts + 1,
                    lease_until = moment + lease
                WHERE j.job_id = ANY (batch)
                RETURNING j.*;
            most := most - cardinality(batch);
        END IF;
        EXIT WHEN most <= 0;
        batch := '{}';
        FOR turn IN SELECT * FROM jobs.front(classes, known, passed, most) LOOP
            IF share <= (SELECT count(*) FROM (
                    SELECT FROM jobs.jobs WHERE state = 'running' AND owner = turn.owner LIMIT share) r) THEN
                full_share := true;
                passed := passed || turn.owner;
                CONTINUE;
            END IF;
            taken := jobs.take(turn, moment - age);
            IF taken IS NOT NULL THEN
                batch := batch || taken;
            -- A place that had no job is gone; the owner may have another.
            ELSIF EXISTS (
                    SELECT FROM jobs.turns t
                    WHERE t.owner = turn.owner AND t.class = turn.class AND t.profile = turn.profile) THEN
                passed := passed || turn.owner;
            END IF;
        END LOOP;
        IF NOT FOUND THEN
            EXIT WHEN NOT full_share;
            -- Nobody else waits: whoever has a full share may have more.
            full_share := false;
            passed := '{}';
            share := 2147483647;
        END IF;
    END LOOP;
END $$;

-- As workers ask who are not yet replaced.
CREATE OR REPLACE FUNCTION jobs.claim(wanted smallint, known text[], lease interval, age interval) RETURNS SETOF jobs.jobs
    LANGUAGE sql
    BEGIN ATOMIC
        SELECT * FROM jobs.claim(wanted, known, 1, lease, age);
    END;
