-- The log: what happened, in commit order, for ever.
CREATE SCHEMA log AUTHORIZATION cinelog_log_owner;
SET LOCAL ROLE cinelog_log_owner;

-- Which log this is, and the lowest position still kept here (older ones are in the archive).
CREATE TABLE log.log (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    log_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    floor   bigint NOT NULL DEFAULT 1
);
INSERT INTO log.log DEFAULT VALUES;

-- Workspaces, brands, companies. A small install has one.
CREATE TABLE log.tenants (
    tenant uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name   text NOT NULL UNIQUE
);
INSERT INTO log.tenants (name) VALUES ('default');

-- One row per stream: what optimistic concurrency locks. `state` is what deciding needs, folded from the stream's
-- facts, free of personal fields. The subject is pinned by the first fact.
CREATE TABLE log.streams (
    tenant    uuid NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    subject   text NOT NULL,
    lane      smallint NOT NULL CHECK (lane BETWEEN 0 AND 63),
    version   bigint NOT NULL,
    state     jsonb NOT NULL,
    PRIMARY KEY (tenant, stream_id)
) WITH (fillfactor = 80);

-- The facts. Positions are dense and in commit order, see log.append.
CREATE TABLE log.events (
    position       bigint NOT NULL,
    lane           smallint NOT NULL,
    tenant         uuid NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    version        bigint NOT NULL,
    type           text NOT NULL,
    schema_version smallint NOT NULL,
    subject        text NOT NULL,
    payload        jsonb NOT NULL,
    meta           jsonb NOT NULL,
    event_id       uuid NOT NULL,
    recorded_at    timestamptz NOT NULL,
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);
-- "Has this lane facts after its checkpoint?" is one probe here.
CREATE INDEX events_lane ON log.events (lane, position);

CREATE TABLE log.events_0 PARTITION OF log.events FOR VALUES FROM (1) TO (10000001);
CREATE TABLE log.events_1 PARTITION OF log.events FOR VALUES FROM (10000001) TO (20000001);
-- A stream's own facts; unique within a partition, as a second fence behind the streams row.
CREATE UNIQUE INDEX events_0_stream ON log.events_0 (tenant, stream_id, version);
CREATE UNIQUE INDEX events_1_stream ON log.events_1 (tenant, stream_id, version);

-- Accepted commands: a repeat returns the first acceptance. Positions are null only inside the
-- transaction that judges the command.
CREATE TABLE log.commands (
    tenant         uuid NOT NULL,
    actor          uuid NOT NULL,
    route          text COLLATE "C" NOT NULL,
    key            text COLLATE "C" NOT NULL,
    body_hash      bytea NOT NULL,
    first_position bigint,
    last_position  bigint,
    accepted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, actor, route, key)
) WITH (fillfactor = 80);

-- One data key per person, wrapped by the master key. An erased person's row stays as a tombstone.
CREATE TABLE log.person_keys (
    tenant    uuid NOT NULL,
    person    uuid NOT NULL,
    wrapped   bytea,
    erased_at timestamptz,
    PRIMARY KEY (tenant, person),
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
);

CREATE FUNCTION log.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'facts are immutable: % of log.events is refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON log.events
    FOR EACH ROW EXECUTE FUNCTION log.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON log.events
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON log.events_0
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON log.events_1
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change();

-- Returns the person's wrapped key, storing `fresh` if there is none yet; null when the person is erased.
CREATE FUNCTION log.person_key(for_tenant uuid, for_person uuid, fresh bytea) RETURNS bytea
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found bytea;
BEGIN
    INSERT INTO log.person_keys (tenant, person, wrapped) VALUES (for_tenant, for_person, fresh)
    ON CONFLICT DO NOTHING;
    SELECT wrapped INTO STRICT found FROM log.person_keys WHERE tenant = for_tenant AND person = for_person;
    RETURN found;
END $$;

REVOKE ALL ON FUNCTION log.person_key FROM PUBLIC;
GRANT USAGE ON SCHEMA log TO cinelog_api, cinelog_projector, cinelog_transcoder;
GRANT SELECT ON log.log, log.tenants, log.streams, log.events, log.commands, log.person_keys
    TO cinelog_api, cinelog_projector, cinelog_transcoder;
GRANT EXECUTE ON FUNCTION log.person_key TO cinelog_api, cinelog_transcoder;
RESET ROLE;
