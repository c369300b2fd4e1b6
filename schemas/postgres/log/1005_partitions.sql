-- Partitions of the log, made before they are needed.
SET LOCAL ROLE cinelog_log_owner;

-- Positions in each partition made from now on.
ALTER TABLE log.log ADD COLUMN partition_rows bigint NOT NULL DEFAULT 10000000 CHECK (partition_rows > 0);

-- Where the last partition ends: the first position that has no place.
CREATE FUNCTION log.room() RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(max(substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('?(\d+)'?\)$re$)::bigint), 1)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'log.events'::regclass
$$;

-- Makes partitions until two whole ones lie ahead of the log, or more when `facts` need them, and returns the first
-- position that has no place then.
-- ATTACH blocks neither readers nor writers; CREATE TABLE … PARTITION OF would.
CREATE FUNCTION log.make_room(facts bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first_free bigint;
    wanted     bigint;
    rows       bigint;
    partition  text;
BEGIN
    -- One at a time; who comes second finds nothing left to do.
    PERFORM pg_advisory_xact_lock(7157201440952);
    SELECT l.partition_rows, greatest(COALESCE((SELECT e.position FROM log.events e ORDER BY e.position DESC LIMIT 1), 0),
                                      l.floor - 1) + greatest(2 * l.partition_rows, least(facts, 1000000))
    INTO rows, wanted FROM log.log l;
    first_free := log.room();
    WHILE first_free <= wanted LOOP
        partition := format('events_at_%s', first_free);
        EXECUTE format('CREATE TABLE log.%I (LIKE log.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', partition);
        EXECUTE format('CREATE UNIQUE INDEX %I ON log.%I (tenant, stream_id, version)', partition || '_stream', partition);
        EXECUTE format('CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON log.%I FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change()', partition);
        EXECUTE format('ALTER TABLE log.events ATTACH PARTITION log.%I FOR VALUES FROM (%s) TO (%s)', partition, first_free, first_free + rows);
        first_free := first_free + rows;
    END LOOP;
    RETURN first_free;
END $$;
REVOKE ALL ON FUNCTION log.make_room FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.make_room TO cinelog_api, cinelog_transcoder;
RESET ROLE;
