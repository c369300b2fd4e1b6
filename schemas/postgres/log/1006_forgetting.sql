-- Forgetting a person, and telling and changing the master key.
SET LOCAL ROLE cinelog_log_owner;

-- A known text under the master key that this log is written with: another key is told before it wraps anything.
ALTER TABLE log.log ADD COLUMN master_check bytea;
-- Since when nothing that Cinelog keeps holds the erased person's texts.
ALTER TABLE log.person_keys ADD COLUMN purged_at timestamptz CHECK (purged_at IS NULL OR erased_at IS NOT NULL);
CREATE INDEX person_keys_unfinished ON log.person_keys (tenant, person) WHERE erased_at IS NOT NULL AND purged_at IS NULL;

-- Keeps `fresh` as the check value if there is none yet, and returns the one that is kept.
CREATE FUNCTION log.master_check(fresh bytea) RETURNS bytea
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE log.log SET master_check = fresh WHERE master_check IS NULL;
    SELECT l.master_check FROM log.log l;
$$;

-- Destroys a person's key. The row stays, so that the person cannot come back.
CREATE FUNCTION log.erase_person(for_tenant uuid, for_person uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO log.person_keys AS k (tenant, person, erased_at) VALUES (for_tenant, for_person, clock_timestamp())
    ON CONFLICT (tenant, person) DO UPDATE SET wrapped = NULL, erased_at = excluded.erased_at WHERE k.erased_at IS NULL;
$$;

-- Says that an erased person's texts are gone from everywhere.
CREATE FUNCTION log.person_purged(for_tenant uuid, for_person uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE log.person_keys SET purged_at = clock_timestamp()
    WHERE tenant = for_tenant AND person = for_person AND erased_at IS NOT NULL AND purged_at IS NULL;
$$;

-- Puts each key in its new wrapping, if it still is in the old one: neither an erasure nor another rotation is undone.
CREATE FUNCTION log.rewrap(tenants uuid[], persons uuid[], old bytea[], new bytea[]) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH changed AS (
        UPDATE log.person_keys k SET wrapped = u.new
        FROM unnest(tenants, persons, old, new) AS u(tenant, person, old, new)
        WHERE k.tenant = u.tenant AND k.person = u.person AND k.wrapped = u.old
        RETURNING 1
    )
    SELECT count(*) FROM changed;
$$;

-- Replaces the check value; the last step of a rotation.
CREATE FUNCTION log.replace_master_check(old bytea, new bytea) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH changed AS (UPDATE log.log SET master_check = new WHERE master_check = old RETURNING 1)
    SELECT EXISTS (SELECT FROM changed);
$$;

REVOKE ALL ON FUNCTION log.master_check, log.erase_person, log.person_purged, log.rewrap, log.replace_master_check FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.master_check TO cinelog_api, cinelog_projector, cinelog_transcoder;
-- Erasing and rotating are the operator's, with the rights of the schemas' owner; projectors finish what was begun.
GRANT EXECUTE ON FUNCTION log.person_purged TO cinelog_projector;
RESET ROLE;
