-- As before, but what does not concern the line is looked at before it is locked: claims wait for one another half as long.
CREATE OR REPLACE FUNCTION jobs.claim(wanted smallint, known text[], lease interval, age interval) RETURNS SETOF jobs.jobs
    LANGUAGE plpgsql
    SET jit TO off SET enable_seqscan TO off SET enable_bitmapscan TO off SET enable_sort TO off
    SET plan_cache_mode TO force_generic_plan AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    classes smallint[] := CASE WHEN wanted IS NULL THEN '{0,1,2,3}' ELSE ARRAY[wanted] END;
    due boolean;
    ageing boolean;
    share int;
    full_share boolean := false;
    passed uuid[] := '{}';
    turn jobs.turns;
    taken uuid;
BEGIN
    -- A claim is a lease: a crash that undoes it leaves a worker whose token is not there.
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT job_id INTO taken FROM jobs.jobs
    WHERE state = 'running' AND lease_until < moment AND class = ANY (classes) AND profile = ANY (known)
    ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF taken IS NULL THEN
        SELECT EXISTS (SELECT FROM jobs.jobs WHERE state = 'queued' AND NOT ready AND not_before <= moment),
               EXISTS (SELECT FROM jobs.turns WHERE level > 1 AND asked_on < moment - age),
               greatest(1, sum(slots) / 2)
        INTO due, ageing, share FROM jobs.workers WHERE until > moment;
        PERFORM jobs.lock_line();
        IF due THEN
            PERFORM jobs.ripen(moment, 100);
        END IF;
        IF ageing THEN
            UPDATE jobs.turns SET level = 1, tag = nextval('jobs.tags') WHERE level > 1 AND asked_on < moment - age;
        END IF;
    END IF;
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
