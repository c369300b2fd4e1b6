-- What read models share: generations, and the one template of who may see a row.
CREATE SCHEMA projection;
GRANT USAGE ON SCHEMA projection TO cinelog_api, cinelog_projector, cinelog_transcoder;

-- Every build of a read model has a schema of its own (feed_g1, feed_g2, …); exactly one is read.
CREATE TABLE projection.generations (
    projection text NOT NULL,
    generation int NOT NULL,
    version    int NOT NULL,                  -- of the projection's code and tables
    live       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (projection, generation)
);
CREATE UNIQUE INDEX generations_live ON projection.generations (projection) WHERE live;
GRANT SELECT ON projection.generations TO cinelog_api, cinelog_projector;

CREATE FUNCTION projection.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.tenant', true), '')::uuid;
CREATE FUNCTION projection.reader() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.user', true), '')::uuid;

-- Puts a table under forced row level security. Classes: `shared` in its tenant, `private` to its `owner`.
-- Without app.tenant (and app.user) set, a reader sees nothing.
CREATE FUNCTION projection.guard(target regclass, class text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    seen := CASE class
        WHEN 'shared' THEN 'tenant = (SELECT projection.tenant())'
        WHEN 'private' THEN 'tenant = (SELECT projection.tenant()) AND owner = (SELECT projection.reader())'
    END;
    IF seen IS NULL THEN
        RAISE EXCEPTION 'no such class of table: %', class;
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY %I ON %s FOR SELECT TO cinelog_api USING (%s)', class, target, seen);
    EXECUTE format('GRANT SELECT ON %s TO cinelog_api', target);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %s TO cinelog_projector', target);
END $$;
