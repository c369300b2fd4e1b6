-- What the read models' queries stand on besides their own tables.

-- How far a running job is. The view has its owner's rights, so it holds the tenant itself.
CREATE VIEW projection.progress WITH (security_barrier = true) AS
SELECT job_id, asset, stage, done, eta_ms, at
FROM jobs.progress
WHERE tenant = (SELECT projection.tenant());
GRANT SELECT ON projection.progress TO cinelog_api;

-- Texts are searched without accents. The extension may be in any schema already, so its dictionary is looked up once.
CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA projection;
DO $$
DECLARE
    home text := (SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'unaccent');
BEGIN
    EXECUTE format(
        'CREATE FUNCTION projection.plain(body text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
             RETURN %1$I.unaccent(%2$L::regdictionary, body)', home, format('%I.unaccent', home));
END $$;

-- The words of a text in the form that its language's configuration gives them. Immutable as far as an index cares: a
-- configuration changes only with Postgres itself, and then the read model is built anew.
CREATE FUNCTION projection.words(language text, body text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector(language::regconfig, projection.plain(coalesce(body, '')));
