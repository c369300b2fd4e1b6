-- Configurations that find the words of a query in a text as it is written, with its accents: what is shown of a result is cut
-- from the text itself, while its words are kept without them.
DO $$
DECLARE
    home text := (SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'unaccent');
    config record;
BEGIN
    FOR config IN
        SELECT c.cfgname AS name, m.mapdict::regdictionary::text AS dictionary
        FROM pg_ts_config c
        JOIN pg_ts_config_map m ON m.mapcfg = c.oid
        JOIN ts_token_type(c.cfgparser) t ON t.tokid = m.maptokentype AND t.alias = 'word'
        WHERE c.cfgnamespace = 'pg_catalog'::regnamespace AND m.mapseqno = 1
    LOOP
        EXECUTE format('CREATE TEXT SEARCH CONFIGURATION projection.%I (COPY = pg_catalog.%I)', config.name, config.name);
        EXECUTE format('ALTER TEXT SEARCH CONFIGURATION projection.%I ALTER MAPPING FOR hword, hword_part, word WITH %I.unaccent, %s',
            config.name, home, config.dictionary);
    END LOOP;
END $$;
