-- Who may read is said by grants. Whoever works for a user sees what is of that user's tenant alone, also of the log and whatever a query asks for. Who sets no tenant
-- works for the log: decides, or tells others that it has grown.
SET LOCAL ROLE cinelog_log_owner;

-- The last position; none in an empty log. Everybody's: where the log ends is no matter of who asks.
CREATE FUNCTION log.head() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT position FROM log.events ORDER BY position DESC LIMIT 1
$$;

CREATE FUNCTION log.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.tenant', true), '')::uuid;

ALTER TABLE log.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON log.events FOR SELECT
    USING ((SELECT log.tenant()) IS NULL OR tenant = (SELECT log.tenant()));

ALTER TABLE log.person_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON log.person_keys FOR SELECT
    USING ((SELECT log.tenant()) IS NULL OR tenant = (SELECT log.tenant()));
RESET ROLE;
