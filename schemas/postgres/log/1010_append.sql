-- The only way to write the log, made anew: the writer judges its batch, and one call confirms what it presumed and
-- writes, or says what is so and writes nothing (ADR 10).
SET LOCAL ROLE cinelog_log_owner;

-- An acceptance is found by its command's hash, as `CommandId::hash` makes it: sixteen bytes to compare, log and keep.
ALTER TABLE log.commands ADD COLUMN id uuid;
UPDATE log.commands SET id = encode(substring(sha256(
    uuid_send(tenant) || uuid_send(actor) || convert_to(route, 'UTF8') || '\x00'::bytea || convert_to(key, 'UTF8')
) FOR 16), 'hex')::uuid;
ALTER TABLE log.commands
    DROP CONSTRAINT commands_pkey, DROP COLUMN tenant, DROP COLUMN actor, DROP COLUMN route, DROP COLUMN key,
    ADD CONSTRAINT commands_pkey PRIMARY KEY (id),
    ALTER COLUMN first_position SET NOT NULL, ALTER COLUMN last_position SET NOT NULL,
    RESET (fillfactor);

-- Streams come sorted and each once, with the version that each is presumed to have and will have, and the state that
-- its new facts fold into (null: unchanged); then commands, which are there already or not: those that win have the ranks of
-- their first and last fact; then the winners' facts in order. Indices and ranks count from 1.
--
-- If every stream is as presumed and no command has been accepted before, all of it is written, and one row says at
-- which position rank 0 would be, and when. Otherwise nothing is, and there is a row for each stream (its version; whether
-- its subject is the one named) and each command accepted before (its positions; whether it asked the same).
--
-- Lock order: the caller's rows, streams, and last the log lock. It is taken in one statement and the numbering reads in
-- a later one, whose snapshot therefore sees every position given before. Postgres frees the lock only after the commit
-- is visible: positions are dense and in commit order.
--
-- New streams and command ids are inserted under the log lock. Nobody else can be inserting then, so nothing waits; whoever
-- was overtaken since its look fails on the primary key, and the whole batch comes again.
--
-- A plan is kept for a session's life. Made while a table is empty or not analysed it would read all of it for each batch,
-- for ever; there is an index for each look, so plans are held to them.
-- Who may append stays as it is: nobody, while an import is unfinished.
SELECT set_config('cinelog.open', has_function_privilege('cinelog_api', p.oid, 'EXECUTE')::text, true)
FROM pg_proc p WHERE p.proname = 'append' AND p.pronamespace = 'log'::regnamespace;
DROP FUNCTION log.append;
CREATE FUNCTION log.append(
    s_tenant uuid[], s_id text[], s_subject text[], s_lane smallint[], s_before bigint[], s_after bigint[], s_state text[],
    c_id uuid[], c_hash bytea[], c_first int[], c_last int[],
    f_stream int[], f_version bigint[], f_type text[], f_schema smallint[], f_payload text[], f_meta text[], f_event uuid[],
    known_position bigint
) RETURNS TABLE (base bigint, recorded_at timestamptz,
                 stream int, version bigint, same_subject boolean,
                 command int, first_position bigint, last_position bigint, same_body boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    found     int[];                         -- the streams that are there already
    places    tid[];                         -- where they lie; locked, they stay there
    versions  bigint[];
    subjects  boolean[];
    repeats   int[];                         -- the commands that have been accepted before
    as_told   bigint;                        -- of the streams that are there, those that are as presumed
    n         bigint := cardinality(f_stream);
    last_one  bigint;
    moment    timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'log.append needs READ COMMITTED, its numbering reads in a snapshot newer than its lock';
    END IF;

    SELECT array_agg(l.i), array_agg(l.place), array_agg(l.version), array_agg(l.same_subject),
           count(*) FILTER (WHERE l.version = l.before AND (l.same_subject OR l.gets_nothing))
    INTO found, places, versions, subjects, as_told
    FROM (
        SELECT t.ctid AS place, t.version, t.subject = u.subject AS same_subject,
               u.before, u.after = u.before AS gets_nothing, u.i::int
        FROM unnest(s_tenant, s_id, s_subject, s_before, s_after) WITH ORDINALITY
             AS u(tenant, stream_id, subject, before, after, i)
        JOIN log.streams t ON t.tenant = u.tenant AND t.stream_id = u.stream_id
        ORDER BY u.i
        FOR UPDATE OF t
    ) l;
    SELECT array_agg(u.i::int) INTO repeats
    FROM unnest(c_id) WITH ORDINALITY AS u(id, i) JOIN log.commands c ON c.id = u.id;

    IF repeats IS NOT NULL OR as_told <> COALESCE(cardinality(found), 0)
        OR as_told <> cardinality(s_before) - cardinality(array_positions(s_before, 0::bigint)) THEN
        RETURN QUERY
        SELECT NULL::bigint, NULL::timestamptz, u.i::int, COALESCE(l.version, 0), COALESCE(l.same_subject, true),
               NULL::int, NULL::bigint, NULL::bigint, NULL::boolean
        FROM unnest(s_id) WITH ORDINALITY AS u(stream_id, i)
        LEFT JOIN unnest(found, versions, subjects) AS l(i, version, same_subject) ON l.i = u.i
        UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, u.i::int, c.first_position, c.last_position, c.body_hash = u.hash
        FROM unnest(c_id, c_hash) WITH ORDINALITY AS u(id, hash, i) JOIN log.commands c ON c.id = u.id;
        RETURN;
    END IF;

    IF n > 0 THEN
        IF as_told > 0 THEN
            UPDATE log.streams t SET version = s_after[u.i], state = COALESCE(s_state[u.i]::jsonb, t.state)
            FROM unnest(found, places) AS u(i, place)
            WHERE t.ctid = u.place AND s_after[u.i] > s_before[u.i];
        END IF;

        PERFORM pg_advisory_xact_lock(7157201440951);
        SELECT greatest(COALESCE(e.position, 0), l.floor - 1), greatest(e.recorded_at, clock_timestamp())
        INTO last_one, moment
        FROM log.log l LEFT JOIN LATERAL (
            SELECT e.position, e.recorded_at FROM log.events e WHERE e.position >= known_position
            ORDER BY e.position DESC LIMIT 1
        ) e ON true;

        IF as_told < cardinality(s_id) THEN
            INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
            SELECT u.tenant, u.stream_id, u.subject, u.lane, u.after, COALESCE(u.state::jsonb, '{}')
            FROM unnest(s_tenant, s_id, s_subject, s_lane, s_before, s_after, s_state)
                 AS u(tenant, stream_id, subject, lane, before, after, state)
            WHERE u.before = 0 AND u.after > 0;
        END IF;
        INSERT INTO log.commands (id, body_hash, first_position, last_position, accepted_at)
        SELECT u.id, u.hash, last_one + u.first, last_one + u.last, clock_timestamp()
        FROM unnest(c_id, c_hash, c_first, c_last) AS u(id, hash, first, last)
        WHERE u.first IS NOT NULL;
        INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                event_id, recorded_at)
        SELECT last_one + u.rank, s_lane[u.stream], s_tenant[u.stream], s_id[u.stream], u.version, u.type, u.schema,
               s_subject[u.stream], u.payload::jsonb, u.meta::jsonb, u.event, moment
        FROM unnest(f_stream, f_version, f_type, f_schema, f_payload, f_meta, f_event) WITH ORDINALITY
             AS u(stream, version, type, schema, payload, meta, event, rank);
        PERFORM pg_notify('cinelog_log', (last_one + n)::text);
    END IF;
    RETURN QUERY
    SELECT last_one, moment, NULL::int, NULL::bigint, NULL::boolean, NULL::int, NULL::bigint, NULL::bigint, NULL::boolean;
END $$;
REVOKE ALL ON FUNCTION log.append FROM PUBLIC;
DO $$ BEGIN
    IF current_setting('cinelog.open')::boolean THEN
        GRANT EXECUTE ON FUNCTION log.append TO cinelog_api, cinelog_transcoder;
    END IF;
END $$;
RESET ROLE;
