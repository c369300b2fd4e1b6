-- Whose turn it is. Owners of waiting jobs stand in line, and whoever has been served goes to its end. A worker claims for the
-- owner in front: however many jobs wait, it looks at that one's oldest. All of this is scheduling, which no fact tells; the jobs
-- themselves still follow from facts.
ALTER TABLE jobs.jobs
    ADD COLUMN asked_on timestamptz NOT NULL DEFAULT now(), -- when the fact that asked was recorded
    ADD COLUMN run text,                                    -- the reprocessing run that asked, if one did
    ADD COLUMN ready boolean NOT NULL DEFAULT false,        -- queued, and its owner stands in line
    ADD COLUMN deaths int NOT NULL DEFAULT 0;               -- how often its child died of it

DROP INDEX jobs.jobs_waiting;
CREATE INDEX jobs_waiting ON jobs.jobs (class, profile, owner, asked_at) WHERE state = 'queued' AND ready;
CREATE INDEX jobs_later ON jobs.jobs (not_before) WHERE state = 'queued' AND NOT ready;
CREATE INDEX jobs_running ON jobs.jobs (owner) WHERE state = 'running';
CREATE INDEX jobs_run ON jobs.jobs (run) WHERE state = 'queued' AND run IS NOT NULL;

-- An owner's place in line, one for each kind of job. It may outlast its jobs: a claim that finds none takes it away. What is
-- in here can be lost: `UPDATE jobs.jobs SET ready = false WHERE ready` makes it anew.
CREATE TABLE jobs.turns (
    owner    uuid NOT NULL,
    class    smallint NOT NULL,
    profile  text NOT NULL,
    level    smallint NOT NULL,    -- the class it competes in: its own, or default once its oldest job has waited long
    tag      bigint NOT NULL,      -- where it stands among those of its level
    asked_on timestamptz NOT NULL, -- of its oldest job
    PRIMARY KEY (owner, class, profile)
);
CREATE INDEX turns_next ON jobs.turns (class, profile, level, tag, asked_on);
CREATE INDEX turns_ageing ON jobs.turns (asked_on) WHERE level > 1;
CREATE SEQUENCE jobs.tags;

-- Who works, and on how many jobs at once: after a crash they say it again.
CREATE UNLOGGED TABLE jobs.workers (
    worker uuid PRIMARY KEY,
    slots  int NOT NULL,
    until  timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.turns, jobs.workers TO cinelog_transcoder;
GRANT USAGE ON SEQUENCE jobs.tags TO cinelog_transcoder;
GRANT SELECT ON jobs.turns, jobs.workers TO cinelog_projector;

-- One at a time changes the line, and commits before the next one looks.
CREATE FUNCTION jobs.lock_line() RETURNS void LANGUAGE sql
    BEGIN ATOMIC
        SELECT pg_advisory_xact_lock(hashtextextended('cinelog jobs.turns', 0));
    END;

-- The owners of `ids` stand in line, those who do not yet at its end. Under the lock of the line.
CREATE FUNCTION jobs.line_up(ids uuid[]) RETURNS void LANGUAGE sql
    BEGIN ATOMIC
        INSERT INTO jobs.turns AS t (owner, class, profile, level, tag, asked_on)
        SELECT owner, class, profile, class, nextval('jobs.tags'), asked_on
        FROM (
            SELECT owner, class, profile, min(asked_on) AS asked_on
            FROM unnest(ids) AS i(job_id) JOIN jobs.jobs USING (job_id)
            WHERE state = 'queued' AND ready
            GROUP BY owner, class, profile
            ORDER BY min(asked_at)) u
        ON CONFLICT (owner, class, profile) DO UPDATE SET asked_on = least(t.asked_on, excluded.asked_on);
    END;

-- Jobs that have waited for another try as long as they should, the longest first. Under the lock of the line.
CREATE FUNCTION jobs.ripen(moment timestamptz, most int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ripe uuid[];
BEGIN
    WITH due AS (
        SELECT job_id FROM jobs.jobs
        WHERE state = 'queued' AND NOT ready AND not_before <= moment
        ORDER BY not_before LIMIT most FOR UPDATE SKIP LOCKED),
    let_in AS (
        UPDATE jobs.jobs j SET ready = true FROM due WHERE j.job_id = due.job_id RETURNING j.job_id)
    SELECT array_agg(job_id) INTO ripe FROM let_in;
    IF ripe IS NOT NULL THEN
        PERFORM jobs.line_up(ripe);
    END IF;
END $$;

-- The place in front among those of `classes` and `profiles`, without the owners in `passed`.
CREATE FUNCTION jobs.front(classes smallint[], profiles text[], passed uuid[]) RETURNS SETOF jobs.turns
    LANGUAGE sql STABLE
    BEGIN ATOMIC
        SELECT t.*
        FROM unnest(classes) AS c(class)
        CROSS JOIN unnest(profiles) AS p(profile)
        CROSS JOIN LATERAL (
            SELECT * FROM jobs.turns t
            WHERE t.class = c.class AND t.profile = p.profile AND t.owner <> ALL (passed)
            ORDER BY t.level, t.tag, t.asked_on LIMIT 1) t
        ORDER BY t.level, t.tag, t.asked_on LIMIT 1;
    END;

-- The oldest job of a place in line. Its owner goes to the end of the line; a place without another job goes altogether. Null:
-- all its jobs are gone, or others hold them. Under the lock of the line.
CREATE FUNCTION jobs.take(turn jobs.turns, aged timestamptz) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    taken uuid;
    rest timestamptz;
    place bigint;
BEGIN
    SELECT job_id INTO taken FROM jobs.jobs
    WHERE state = 'queued' AND ready AND class = turn.class AND profile = turn.profile AND owner = turn.owner
    ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    SELECT asked_on INTO rest FROM jobs.jobs
    WHERE state = 'queued' AND ready AND class = turn.class AND profile = turn.profile AND owner = turn.owner
        AND job_id IS DISTINCT FROM taken
    ORDER BY asked_at LIMIT 1;
    IF rest IS NULL THEN
        DELETE FROM jobs.turns t WHERE t.owner = turn.owner AND t.class = turn.class AND t.profile = turn.profile;
    END IF;
    IF taken IS NOT NULL THEN
        place := nextval('jobs.tags');
        UPDATE jobs.turns t SET tag = place
        WHERE t.owner = turn.owner AND t.level = turn.level AND (t.class, t.profile) <> (turn.class, turn.profile);
        UPDATE jobs.turns t
        SET tag = place, asked_on = rest, level = CASE WHEN rest < aged THEN t.level ELSE t.class END
        WHERE t.owner = turn.owner AND t.class = turn.class AND t.profile = turn.profile;
    END IF;
    RETURN taken;
END $$;

-- Takes the next job of class `wanted` (null: of any) with a profile of `known`: first one whose worker went silent, else the
-- oldest of the owner in front. While another waits, nobody has more than half of all slots. Its statements are planned once,
-- and only for indexes: plans that were made while the tables were small would read all of them for ever.
CREATE FUNCTION jobs.claim(wanted smallint, known text[], lease interval, age interval) RETURNS SETOF jobs.jobs
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
BEGIN
    -- A claim is a lease: a crash that undoes it leaves a worker whose token is not there.
    PERFORM set_config('synchronous_commit', 'off', true), jobs.lock_line();
    moment := clock_timestamp();
    IF EXISTS (SELECT FROM jobs.jobs WHERE state = 'queued' AND NOT ready AND not_before <= moment) THEN
        PERFORM jobs.ripen(moment, 100);
    END IF;
    UPDATE jobs.turns SET level = 1, tag = nextval('jobs.tags') WHERE level > 1 AND asked_on < moment - age;
    SELECT job_id INTO taken FROM jobs.jobs
    WHERE state = 'running' AND lease_until < moment AND class = ANY (classes) AND profile = ANY (known)
    ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED;
    SELECT greatest(1, sum(slots) / 2) INTO share FROM jobs.workers WHERE until > moment;
    WHILE taken IS NULL LOOP
        SELECT * INTO turn FROM jobs.front(classes, known, passed);
        IF FOUND THEN
            IF share > (SELECT count(*) FROM (
                    SELECT FROM jobs.jobs WHERE state = 'running' AND owner = turn.owner LIMIT share) r) THEN
                taken := jobs.take(turn, moment - age);
                IF taken IS NULL THEN
                    -- A place that had no job is gone; the owner may have another.
                    CONTINUE WHEN NOT EXISTS (
                        SELECT FROM jobs.turns t
                        WHERE t.owner = turn.owner AND t.class = turn.class AND t.profile = turn.profile);
                END IF;
            ELSE
                full_share := true;
            END IF;
            passed := passed || turn.owner;
        ELSE
            EXIT WHEN NOT full_share;
            -- Nobody else waits: whoever has a full share may have more.
            full_share := false;
            passed := '{}';
            share := 2147483647;
        END IF;
    END LOOP;
    RETURN QUERY
        UPDATE jobs.jobs j
        SET state = 'running', ready = false, token = gen_random_uuid(), attempts = attempts + 1,
            lease_until = moment + lease
        WHERE j.job_id = taken
        RETURNING j.*;
END $$;

SELECT jobs.ripen(now(), NULL);
