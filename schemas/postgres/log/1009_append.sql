-- The only way to write the log, made anew: one call is one batch of commands and one transaction, as before.
--
-- Streams come sorted and each once; commands in arrival order; an expectation says what a command expects of a stream
-- (-1 anything, 0 that it does not exist, n its version) and the state its facts fold into (null: unchanged); facts
-- come grouped by command. Indices count from 1.
--
-- Lock order: the caller's rows, streams, and last the log lock. It is taken in one statement and the numbering reads in
-- a later one, whose snapshot therefore sees every position given before. Postgres frees the lock only after the commit
-- is visible: positions are dense and in commit order.
--
-- New streams and command ids are inserted once, under the log lock, with all that they will ever hold. Nobody else can
-- be inserting then, so nothing waits; whoever was overtaken since its first look has judged too early: it fails on the
-- primary key, and the whole batch comes again.
-- A plan is kept for a session's life. Made while a table is empty or not analysed it would read all of it for each batch,
-- for ever; there is an index for each look, so plans are held to them.
SET LOCAL ROLE cinelog_log_owner;
CREATE OR REPLACE FUNCTION log.append(
    s_tenant uuid[], s_id text[], s_subject text[], s_lane smallint[],
    c_tenant uuid[], c_actor uuid[], c_route text[], c_key text[], c_hash bytea[],
    x_command int[], x_stream int[], x_expected bigint[], x_state text[],
    f_command int[], f_stream int[], f_type text[], f_schema smallint[], f_payload text[], f_meta text[], f_event uuid[],
    known_position bigint
) RETURNS TABLE (verdict text, first_position bigint, last_position bigint, stream int, actual bigint,
                recorded_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    n          int := cardinality(c_tenant);
    found      int[];                        -- which command ids, then which streams, are there already
    old_first  bigint[];
    old_last   bigint[];
    same       boolean[];
    versions   bigint[];
    places     tid[];                        -- where the streams that are there lie; locked, they stay there
    before     bigint[] := array_fill(0::bigint, ARRAY[cardinality(s_id)]);       -- each stream's version when it was locked
    now_at     bigint[];                                                          -- and after the commands judged so far
    pinned     boolean[] := array_fill(true, ARRAY[cardinality(s_id)]);           -- whether its subject is the one named
    new_state  text[] := array_fill(NULL::text, ARRAY[cardinality(s_id)]);
    c_verdict  text[] := array_fill(NULL::text, ARRAY[n]);
    c_first    bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    c_last     bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    c_stream   int[] := array_fill(NULL::int, ARRAY[n]);
    c_actual   bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    f_rank     bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(f_command)]);
    f_version  bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(f_command)]);
    won        bigint := 0;                  -- facts of winners so far
    fresh      boolean := false;             -- whether a winner begins a stream
    judged     text;
    x int := 1; x0 int; f int := 1; s int;
    base       bigint;
    base_time  timestamptz;
    moment     timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'log.append needs READ COMMITTED, its numbering reads in a snapshot newer than its lock';
    END IF;

    SELECT array_agg(u.i), array_agg(c.first_position), array_agg(c.last_position), array_agg(c.body_hash = u.hash)
    INTO found, old_first, old_last, same
    FROM unnest(c_tenant, c_actor, c_route, c_key, c_hash) WITH ORDINALITY AS u(tenant, actor, route, key, hash, i)
    JOIN log.commands c USING (tenant, actor, route, key);
    FOR k IN 1..COALESCE(cardinality(found), 0) LOOP
        c_verdict[found[k]] := CASE WHEN same[k] THEN 'repeated' ELSE 'reused' END;
        c_first[found[k]] := old_first[k];
        c_last[found[k]] := old_last[k];
    END LOOP;

    SELECT array_agg(l.i), array_agg(l.place), array_agg(l.version), array_agg(l.same_subject)
    INTO found, places, versions, same
    FROM (
        SELECT t.ctid AS place, t.version, t.subject = u.subject AS same_subject, u.i
        FROM unnest(s_tenant, s_id, s_subject) WITH ORDINALITY AS u(tenant, stream_id, subject, i)
        JOIN log.streams t ON t.tenant = u.tenant AND t.stream_id = u.stream_id
        ORDER BY u.i
        FOR UPDATE OF t
    ) l;
    FOR k IN 1..COALESCE(cardinality(found), 0) LOOP
        before[found[k]] := versions[k];
        pinned[found[k]] := same[k];
    END LOOP;
    now_at := before;

    FOR c IN 1..n LOOP
        judged := c_verdict[c];
        x0 := x;
        WHILE x_command[x] = c LOOP
            s := x_stream[x];
            IF judged IS NULL AND (NOT pinned[s] OR x_expected[x] NOT IN (-1, now_at[s])) THEN
                judged := CASE WHEN pinned[s] THEN 'conflict' ELSE 'subject' END;
                c_stream[c] := s;
                c_actual[c] := now_at[s];
            END IF;
            x := x + 1;
        END LOOP;
        IF judged IS NULL THEN
            judged := 'accepted';
            c_first[c] := won + 1;
            FOR i IN x0..x - 1 LOOP
                s := x_stream[i];
                IF x_state[i] IS NOT NULL THEN new_state[s] := x_state[i]; END IF;
            END LOOP;
            WHILE f_command[f] = c LOOP
                s := f_stream[f];
                won := won + 1;
                f_rank[f] := won;
                IF now_at[s] = 0 THEN fresh := true; END IF;
                now_at[s] := now_at[s] + 1;
                f_version[f] := now_at[s];
                f := f + 1;
            END LOOP;
            c_last[c] := won;
        ELSE
            WHILE f_command[f] = c LOOP f := f + 1; END LOOP;
        END IF;
        c_verdict[c] := judged;
    END LOOP;

    IF won > 0 THEN
        UPDATE log.streams t SET version = now_at[u.i], state = COALESCE(new_state[u.i]::jsonb, t.state)
        FROM unnest(found, places) AS u(i, place)
        WHERE t.ctid = u.place AND now_at[u.i] > before[u.i];

        PERFORM pg_advisory_xact_lock(7157201440951);
        SELECT e.position, e.recorded_at INTO base, base_time
        FROM log.events e WHERE e.position >= known_position ORDER BY e.position DESC LIMIT 1;
        SELECT greatest(COALESCE(base, 0), l.floor - 1) INTO base FROM log.log l;
        moment := greatest(base_time, clock_timestamp());

        IF fresh THEN
            INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
            SELECT u.tenant, u.stream_id, u.subject, u.lane, u.version, COALESCE(u.state::jsonb, '{}')
            FROM unnest(s_tenant, s_id, s_subject, s_lane, before, now_at, new_state)
                 AS u(tenant, stream_id, subject, lane, before, version, state)
            WHERE u.before = 0 AND u.version > 0;
        END IF;
        INSERT INTO log.commands (tenant, actor, route, key, body_hash, first_position, last_position)
        SELECT u.tenant, u.actor, u.route, u.key, u.hash, base + u.first, base + u.last
        FROM unnest(c_tenant, c_actor, c_route, c_key, c_hash, c_verdict, c_first, c_last)
             AS u(tenant, actor, route, key, hash, verdict, first, last)
        WHERE u.verdict = 'accepted';
        INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                event_id, recorded_at)
        SELECT base + u.rank, s_lane[u.stream], s_tenant[u.stream], s_id[u.stream], u.version, u.type, u.schema,
               s_subject[u.stream], u.payload::jsonb, u.meta::jsonb, u.event, moment
        FROM unnest(f_rank, f_stream, f_version, f_type, f_schema, f_payload, f_meta, f_event)
             AS u(rank, stream, version, type, schema, payload, meta, event)
        WHERE u.rank IS NOT NULL;
        PERFORM pg_notify('cinelog_log', (base + won)::text);
    END IF;

    RETURN QUERY
    SELECT u.verdict,
           CASE u.verdict WHEN 'accepted' THEN base + u.first ELSE u.first END,
           CASE u.verdict WHEN 'accepted' THEN base + u.last ELSE u.last END,
           u.stream, u.actual, moment
    FROM unnest(c_verdict, c_first, c_last, c_stream, c_actual) WITH ORDINALITY AS u(verdict, first, last, stream, actual, i)
    ORDER BY u.i;
END $$;

-- Forgets acceptances older than seven days in the `pages` pages of the table from `from_page` on. Returns the page to go
-- on with; null at the end of the table. By pages, because an index on the time would cost every append something.
CREATE FUNCTION log.forget_commands(from_page bigint, pages int) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next_page bigint := from_page + least(greatest(pages, 1), 10000);
BEGIN
    DELETE FROM log.commands
    WHERE ctid >= format('(%s,0)', from_page)::tid AND ctid < format('(%s,0)', next_page)::tid
      AND accepted_at < now() - interval '7 days';
    RETURN CASE WHEN next_page * current_setting('block_size')::bigint < pg_relation_size('log.commands') THEN next_page END;
END $$;
REVOKE ALL ON FUNCTION log.forget_commands FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.forget_commands TO cinelog_api, cinelog_transcoder;
RESET ROLE;
