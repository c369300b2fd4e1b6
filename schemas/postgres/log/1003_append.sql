-- The only way to write the log. One call is one batch of commands and one transaction.
--
-- Streams come sorted and each once; commands in arrival order; an expectation says what a command expects of a stream
-- (-1 anything, 0 that it does not exist, n its version) and the state its facts fold into (null: unchanged); facts
-- come grouped by command. Indices count from 1.
--
-- Lock order: the caller's rows, command ids, streams, and last the log lock. The lock is taken in one statement and the
-- numbering reads in a later one, whose snapshot therefore sees every position given before. Postgres frees the lock
-- only after the commit is visible: positions are dense and in commit order.
SET LOCAL ROLE cinelog_log_owner;
CREATE FUNCTION log.append(
    s_tenant uuid[], s_id text[], s_subject text[], s_lane smallint[],
    c_tenant uuid[], c_actor uuid[], c_route text[], c_key text[], c_hash bytea[],
    x_command int[], x_stream int[], x_expected bigint[], x_state text[],
    f_command int[], f_stream int[], f_type text[], f_schema smallint[], f_payload text[], f_meta text[], f_event uuid[],
    known_position bigint
) RETURNS TABLE (verdict text, first_position bigint, last_position bigint, stream int, actual bigint,
                recorded_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    n          int := cardinality(c_tenant);
    before     bigint[];                     -- each stream's version when it was locked
    now_at     bigint[];                     -- and after the commands judged so far
    pinned     boolean[];
    new_state  text[] := array_fill(NULL::text, ARRAY[cardinality(s_id)]);
    old_first  bigint[];                     -- positions of an earlier acceptance of the same command id
    old_last   bigint[];
    same_body  boolean[];
    c_verdict  text[] := array_fill(NULL::text, ARRAY[n]);
    c_first    bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    c_last     bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    c_stream   int[] := array_fill(NULL::int, ARRAY[n]);
    c_actual   bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    f_rank     bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(f_command)]);
    f_version  bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(f_command)]);
    won        bigint := 0;                  -- facts of winners so far
    losers     boolean := false;
    x int := 1; x0 int; f int := 1; s int; want bigint;
    base       bigint;
    base_time  timestamptz;
    moment     timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'log.append needs READ COMMITTED, its numbering reads in a snapshot newer than its lock';
    END IF;

    INSERT INTO log.commands AS c (tenant, actor, route, key, body_hash)
    SELECT u.* FROM unnest(c_tenant, c_actor, c_route, c_key, c_hash) AS u(tenant, actor, route, key, hash)
    ORDER BY u.tenant, u.actor, u.route COLLATE "C", u.key COLLATE "C"
    ON CONFLICT DO NOTHING;
    SELECT array_agg(c.first_position ORDER BY u.i), array_agg(c.last_position ORDER BY u.i),
           array_agg(c.body_hash = u.hash ORDER BY u.i)
    INTO old_first, old_last, same_body
    FROM unnest(c_tenant, c_actor, c_route, c_key, c_hash) WITH ORDINALITY AS u(tenant, actor, route, key, hash, i)
    JOIN log.commands c USING (tenant, actor, route, key);

    INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
    SELECT u.tenant, u.stream_id, u.subject, u.lane, 0, '{}'
    FROM unnest(s_tenant, s_id, s_subject, s_lane) WITH ORDINALITY AS u(tenant, stream_id, subject, lane, i)
    WHERE NOT EXISTS (SELECT FROM log.streams t WHERE t.tenant = u.tenant AND t.stream_id = u.stream_id)
    ORDER BY u.i
    ON CONFLICT DO NOTHING;
    SELECT array_agg(l.version ORDER BY l.i), array_agg(l.same_subject ORDER BY l.i)
    INTO before, pinned
    FROM (
        SELECT t.version, t.subject = u.subject AS same_subject, u.i
        FROM unnest(s_tenant, s_id, s_subject) WITH ORDINALITY AS u(tenant, stream_id, subject, i)
        JOIN log.streams t ON t.tenant = u.tenant AND t.stream_id = u.stream_id
        ORDER BY u.i
        FOR UPDATE OF t
    ) l;
    IF cardinality(before) IS DISTINCT FROM cardinality(s_id) THEN
        -- A stream that was there without facts went away with the refused command that had made it.
        RAISE EXCEPTION 'a stream went away' USING ERRCODE = 'serialization_failure';
    END IF;
    now_at := before;

    FOR c IN 1..n LOOP
        x0 := x;
        IF old_first[c] IS NOT NULL THEN
            c_verdict[c] := CASE WHEN same_body[c] THEN 'repeated' ELSE 'reused' END;
            c_first[c] := old_first[c];
            c_last[c] := old_last[c];
            losers := true;
            WHILE x_command[x] = c LOOP x := x + 1; END LOOP;
        ELSE
            WHILE x_command[x] = c LOOP
                s := x_stream[x];
                want := x_expected[x];
                IF c_verdict[c] IS NULL AND NOT pinned[s] THEN
                    c_verdict[c] := 'subject'; c_stream[c] := s;
                ELSIF c_verdict[c] IS NULL AND want >= 0 AND want <> now_at[s] THEN
                    c_verdict[c] := 'conflict'; c_stream[c] := s; c_actual[c] := now_at[s];
                END IF;
                x := x + 1;
            END LOOP;
            IF c_verdict[c] IS NULL THEN
                c_verdict[c] := 'accepted';
                c_first[c] := won + 1;
                FOR i IN x0..x - 1 LOOP
                    IF x_state[i] IS NOT NULL THEN new_state[x_stream[i]] := x_state[i]; END IF;
                END LOOP;
            ELSE
                losers := true;
            END IF;
        END IF;
        WHILE f_command[f] = c LOOP
            IF c_verdict[c] = 'accepted' THEN
                s := f_stream[f];
                won := won + 1;
                f_rank[f] := won;
                now_at[s] := now_at[s] + 1;
                f_version[f] := now_at[s];
            END IF;
            f := f + 1;
        END LOOP;
        IF c_verdict[c] = 'accepted' THEN c_last[c] := won; END IF;
    END LOOP;

    IF losers THEN
        -- A refused command leaves nothing: neither its id nor a stream without facts.
        DELETE FROM log.commands c USING unnest(c_tenant, c_actor, c_route, c_key, c_verdict) AS u(tenant, actor, route, key, verdict)
        WHERE c.tenant = u.tenant AND c.actor = u.actor AND c.route = u.route AND c.key = u.key
          AND u.verdict IN ('conflict', 'subject');
        DELETE FROM log.streams t USING unnest(s_tenant, s_id, now_at) AS u(tenant, stream_id, version)
        WHERE t.tenant = u.tenant AND t.stream_id = u.stream_id AND u.version = 0;
    END IF;

    IF won > 0 THEN
        UPDATE log.streams t SET version = u.version, state = COALESCE(u.state::jsonb, t.state)
        FROM unnest(s_tenant, s_id, before, now_at, new_state) AS u(tenant, stream_id, before, version, state)
        WHERE t.tenant = u.tenant AND t.stream_id = u.stream_id AND u.version > u.before;

        PERFORM pg_advisory_xact_lock(7157201440951);
        SELECT e.position, e.recorded_at INTO base, base_time
        FROM log.events e WHERE e.position >= known_position ORDER BY e.position DESC LIMIT 1;
        SELECT greatest(COALESCE(base, 0), l.floor - 1) INTO base FROM log.log l;
        moment := greatest(base_time, clock_timestamp());

        INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                event_id, recorded_at)
        SELECT base + u.rank, s_lane[u.stream], s_tenant[u.stream], s_id[u.stream], u.version, u.type, u.schema,
               s_subject[u.stream], u.payload::jsonb, u.meta::jsonb, u.event, moment
        FROM unnest(f_rank, f_stream, f_version, f_type, f_schema, f_payload, f_meta, f_event)
             AS u(rank, stream, version, type, schema, payload, meta, event)
        WHERE u.rank IS NOT NULL;

        UPDATE log.commands c SET first_position = base + u.first, last_position = base + u.last
        FROM unnest(c_tenant, c_actor, c_route, c_key, c_verdict, c_first, c_last)
             AS u(tenant, actor, route, key, verdict, first, last)
        WHERE u.verdict = 'accepted'
          AND c.tenant = u.tenant AND c.actor = u.actor AND c.route = u.route AND c.key = u.key;
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
REVOKE ALL ON FUNCTION log.append FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append TO cinelog_api, cinelog_transcoder;
RESET ROLE;
