-- Words that mean the same to a tenant's people: a search for one finds the others. They widen queries, so that changing them needs
-- no read model to be made anew.
CREATE TABLE accounts.synonyms (
    tenant  uuid NOT NULL,
    meaning smallint NOT NULL,                 -- words with the same number mean the same
    word    text NOT NULL,                     -- as it was written
    asked   text NOT NULL,                     -- as a query has it
    PRIMARY KEY (tenant, meaning, word)
);

-- What the longest part of each word becomes in each language: by these, the few that a query may touch are found.
CREATE TABLE accounts.synonym_stems (
    tenant  uuid NOT NULL,
    stem    text NOT NULL,
    meaning smallint NOT NULL,
    PRIMARY KEY (tenant, stem, meaning)
);

ALTER TABLE accounts.synonyms ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts.synonyms FORCE ROW LEVEL SECURITY;
ALTER TABLE accounts.synonym_stems ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts.synonym_stems FORCE ROW LEVEL SECURITY;
CREATE POLICY shared ON accounts.synonyms FOR SELECT TO cinelog_api USING (tenant = (SELECT projection.tenant()));
CREATE POLICY shared ON accounts.synonym_stems FOR SELECT TO cinelog_api USING (tenant = (SELECT projection.tenant()));
CREATE POLICY moderators ON accounts.synonyms TO cinelog_api
    USING (tenant = (SELECT projection.tenant()) AND (SELECT current_setting('app.moderator', true)) = 'true');
CREATE POLICY moderators ON accounts.synonym_stems TO cinelog_api
    USING (tenant = (SELECT projection.tenant()) AND (SELECT current_setting('app.moderator', true)) = 'true');
GRANT SELECT, INSERT, DELETE ON accounts.synonyms, accounts.synonym_stems TO cinelog_api;

-- A query that is also content with words of the same meaning: of each of `meanings`, a list of words, those that the query asks for
-- become themselves or any of the list; of a phrase all words are asked for, wherever they are. Each meaning is first one mark, so
-- that no word is widened twice. What would become very long stays as it was said.
CREATE FUNCTION projection.widened(said tsquery, language text, meanings jsonb) RETURNS tsquery
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, projection AS $$
DECLARE
    wide    tsquery := said;
    meaning jsonb;
    word    text;
    asked   tsquery;
    either  tsquery;
    mark    tsquery;
    marks   tsquery[] := '{}';
    eithers tsquery[] := '{}';
BEGIN
    FOR meaning IN SELECT jsonb_array_elements(meanings) LOOP
        mark := quote_literal(chr(57344) || cardinality(marks))::tsquery;
        either := NULL;
        FOR word IN SELECT jsonb_array_elements_text(meaning) LOOP
            asked := plainto_tsquery(language::regconfig, projection.plain(word));
            CONTINUE WHEN numnode(asked) = 0;
            wide := ts_rewrite(wide, asked, mark || asked);
            either := CASE WHEN either IS NULL THEN asked ELSE either || asked END;
        END LOOP;
        CONTINUE WHEN either IS NULL;
        marks := marks || mark;
        eithers := eithers || either;
    END LOOP;
    FOR n IN 1..cardinality(marks) LOOP
        wide := ts_rewrite(wide, marks[n], eithers[n]);
        IF pg_column_size(wide) > 16384 THEN
            RETURN said;
        END IF;
    END LOOP;
    RETURN wide;
END $$;
