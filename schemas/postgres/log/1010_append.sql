-- The only way to write the log, made anew: the writer judges its batch, and one call writes it if all is as presumed
-- (ADR 10).
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

-- Who may append stays as it is: nobody, while an import is unfinished.
SELECT set_config('cinelog.open', has_function_privilege('cinelog_api', p.oid, 'EXECUTE')::text, true)
FROM pg_proc p WHERE p.proname = 'append' AND p.pronamespace = 'log'::regnamespace;
DROP FUNCTION log.append;

-- Streams come sorted and each once: those that are written, with the version that each is presumed to have and will have,
-- and the state that its new facts fold into (null: unchanged). Then the commands that win, with the ranks of their first
-- and last fact; their facts in order; and what it rests on that others lose: they have not been accepted before, and these
-- streams have these versions. Indices and ranks count from 1.
--
-- If all of that is so, it is written: `base` is the position that rank 0 would have. Otherwise nothing is.
--
-- Nothing is looked up that writing finds out: a stream is updated where it has the version, and an insert fails where
-- another has come before.
--
-- Lock order: the caller's rows, streams, and last the log lock. It is taken in one statement and the numbering reads in
-- a later one, whose snapshot therefore sees every position given before. Postgres frees the lock only after the commit
-- is visible: positions are dense and in commit order.
--
-- New streams and command ids are inserted under the log lock. Nobody else can be inserting then, so nothing waits. Nor can
-- anybody commit a stream or an acceptance, so what losing rests on is read there.
--
-- A plan is kept for a session's life. Made while a table is empty or not analysed it would read all of it for each batch,
-- for ever; there is an index for each look, so plans are held to them.
CREATE FUNCTION log.append(
    s_tenant uuid[], s_id text[], s_subject text[], s_lane smallint[], s_before bigint[], s_after bigint[], s_state text[],
    c_id uuid[], c_hash bytea[], c_first int[], c_last int[],
    f_stream int[], f_version bigint[], f_type text[], f_schema smallint[], f_payload text[], f_meta text[], f_event uuid[],
    l_command uuid[], l_tenant uuid[], l_id text[], l_version bigint[],
    known_position bigint,
    OUT done boolean, OUT base bigint, OUT recorded_at timestamptz
)   LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    n       int := cardinality(f_stream);
    old     int := cardinality(s_before) - cardinality(array_positions(s_before, 0::bigint));
    rows    int;
    nothing text;
    fault   text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'log.append needs READ COMMITTED, its numbering reads in a snapshot newer than its lock';
    END IF;

    -- Either way streams are locked first: an import that closes the log waits for that.
    IF old = 0 THEN
        LOCK TABLE log.streams IN ROW EXCLUSIVE MODE;
    ELSE
        UPDATE log.streams t SET version = s_after[i], state = COALESCE(s_state[i]::jsonb, t.state)
        FROM generate_series(1, cardinality(s_id)) AS i
        WHERE s_before[i] > 0 AND t.tenant = s_tenant[i] AND t.stream_id = s_id[i]
          AND t.version = s_before[i] AND t.subject = s_subject[i];
        GET DIAGNOSTICS rows = ROW_COUNT;
        IF rows < old THEN
            RAISE unique_violation USING TABLE = 'streams';
        END IF;
    END IF;
    -- Whoever has waited here for an import to close the log began before it did.
    IF NOT has_function_privilege('cinelog_api', 'log.append(uuid[], text[], text[], smallint[], bigint[], bigint[], text[],
        uuid[], bytea[], int[], int[], int[], bigint[], text[], smallint[], text[], text[], uuid[],
        uuid[], uuid[], text[], bigint[], bigint)'::regprocedure, 'EXECUTE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'the log is closed: an import has not ended';
    END IF;
    IF n > 0 OR cardinality(l_command) > 0 THEN
        nothing := pg_advisory_xact_lock(7157201440951);
    END IF;
    IF cardinality(l_command) > 0 AND (
        EXISTS (SELECT FROM generate_series(1, cardinality(l_command)) AS i JOIN log.commands c ON c.id = l_command[i])
        OR EXISTS (SELECT FROM generate_series(1, cardinality(l_id)) AS i
                   LEFT JOIN log.streams t ON t.tenant = l_tenant[i] AND t.stream_id = l_id[i]
                   WHERE COALESCE(t.version, 0) <> l_version[i])
    ) THEN
        RAISE unique_violation USING TABLE = 'streams';
    END IF;
    IF n > 0 THEN
        SELECT greatest(COALESCE(e.position, 0), l.floor - 1), greatest(e.recorded_at, clock_timestamp()) INTO base, recorded_at
        FROM log.log l LEFT JOIN LATERAL (
            SELECT e.position, e.recorded_at FROM log.events e WHERE e.position >= known_position
            ORDER BY e.position DESC LIMIT 1
        ) e ON true;
        -- Streams and commands before facts: what another has begun is found out here, by its name.
        INSERT INTO log.streams (tenant, stream_id, subject, lane, version, state)
        SELECT s_tenant[i], s_id[i], s_subject[i], s_lane[i], s_after[i], COALESCE(s_state[i]::jsonb, '{}')
        FROM generate_series(1, cardinality(s_id)) AS i
        WHERE s_before[i] = 0;
        INSERT INTO log.commands (id, body_hash, first_position, last_position, accepted_at)
        SELECT c_id[i], c_hash[i], base + c_first[i], base + c_last[i], clock_timestamp()
        FROM generate_series(1, cardinality(c_id)) AS i;
        INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                event_id, recorded_at)
        SELECT base + i, s_lane[f_stream[i]], s_tenant[f_stream[i]], s_id[f_stream[i]], f_version[i], f_type[i], f_schema[i],
               s_subject[f_stream[i]], f_payload[i]::jsonb, f_meta[i]::jsonb, f_event[i], append.recorded_at
        FROM generate_series(1, n) AS i;
        nothing := pg_notify('cinelog_log', (base + n)::text);
    END IF;
    done := true;
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS fault = TABLE_NAME;
    -- A fact that is there already is no matter of who came first.
    IF fault NOT IN ('streams', 'commands') THEN
        RAISE;
    END IF;
    done := false;
END $$;

-- How streams and commands stand, for a batch that presumed otherwise: a row for each stream that is there (its version;
-- whether its subject is the one named) and each command that has been accepted before (its positions; whether it asked the
-- same). Streams come sorted and each once, and stay locked.
CREATE FUNCTION log.look(s_tenant uuid[], s_id text[], s_subject text[], c_id uuid[], c_hash bytea[])
    RETURNS TABLE (stream int, version bigint, same_subject boolean,
                   command int, first_position bigint, last_position bigint, same_body boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT u.i::int, t.version, t.subject = u.subject, NULL::int, NULL::bigint, NULL::bigint, NULL::boolean
    FROM unnest(s_tenant, s_id, s_subject) WITH ORDINALITY AS u(tenant, stream_id, subject, i)
    JOIN log.streams t ON t.tenant = u.tenant AND t.stream_id = u.stream_id
    ORDER BY u.i
    FOR UPDATE OF t;
    RETURN QUERY
    SELECT NULL::int, NULL::bigint, NULL::boolean, u.i::int, c.first_position, c.last_position, c.body_hash = u.hash
    FROM unnest(c_id, c_hash) WITH ORDINALITY AS u(id, hash, i) JOIN log.commands c ON c.id = u.id;
END $$;
REVOKE ALL ON FUNCTION log.append, log.look FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.look TO cinelog_api, cinelog_transcoder;
DO $$ BEGIN
    IF current_setting('cinelog.open')::boolean THEN
        GRANT EXECUTE ON FUNCTION log.append TO cinelog_api, cinelog_transcoder;
    END IF;
END $$;
RESET ROLE;
