-- What can be found. Who may see it is not here: a read joins the models that know.
CREATE TABLE document (
    tenant    uuid NOT NULL,
    kind      text NOT NULL,                   -- post person asset
    id        uuid NOT NULL,
    author    uuid NOT NULL,
    claimed   text,                            -- the language that the author names
    language  text NOT NULL,                   -- the text search configuration
    title     text,
    body      text,
    place     text,
    grams     text,                            -- characters and pairs of them, of scripts that write no spaces
    hashtags  text[] NOT NULL,
    public    boolean NOT NULL,
    position  bigint NOT NULL,
    at        timestamptz NOT NULL,
    name_key  text GENERATED ALWAYS AS (lower(projection.plain(left(title, 200)))) STORED,
    place_key text GENERATED ALWAYS AS (lower(projection.plain(left(place, 200)))) STORED,
    lexemes   tsvector GENERATED ALWAYS AS (
        setweight(projection.words(language, left(title, 1000)), 'A')
            || setweight(projection.words(language, left(body, 50000)), 'B')
            || setweight(projection.words(language, left(place, 1000)), 'C')
            || to_tsvector('pg_catalog.simple'::regconfig, coalesce(grams, ''))
            -- No word begins so: in which language the words are, and about when it was. The index finds by them too.
            || array_to_tsvector(ARRAY['=' || language, '@' || (position >> 16)::text])) STORED,
    PRIMARY KEY (tenant, kind, id)
);
CREATE INDEX document_lexemes ON document USING gin (lexemes);
CREATE INDEX document_hashtags ON document USING gin (hashtags);
CREATE INDEX document_newest ON document (tenant, position DESC);
CREATE INDEX document_author ON document (tenant, author, position DESC);
CREATE INDEX document_place ON document (tenant, place_key, position DESC) WHERE place_key IS NOT NULL;
CREATE INDEX document_language ON document (tenant, language);
CREATE INDEX document_at ON document (tenant, at, position);
CREATE INDEX document_name ON document (tenant, name_key text_pattern_ops) WHERE kind = 'person';

-- Public posts per hashtag; each lane has its own part of the sum.
CREATE TABLE hashtag (
    tenant uuid NOT NULL,
    tag    text NOT NULL,
    lane   smallint NOT NULL,
    posts  bigint NOT NULL CHECK (posts > 0),  -- nothing has no row
    PRIMARY KEY (tenant, tag, lane)
);
CREATE INDEX hashtag_prefix ON hashtag (tenant, tag text_pattern_ops);

-- Words of what all may see, as they are written, and in how many documents; each lane has its own part of the sum. Words that
-- are begun or misspelt are looked for here, from their beginning and from their end.
CREATE TABLE term (
    tenant    uuid NOT NULL,
    term      text NOT NULL,
    lane      smallint NOT NULL,
    documents bigint NOT NULL CHECK (documents > 0),
    plain     text GENERATED ALWAYS AS (projection.plain(term)) STORED,
    PRIMARY KEY (tenant, term, lane)
);
CREATE INDEX term_begins ON term (tenant, plain text_pattern_ops);
CREATE INDEX term_ends ON term (tenant, reverse(plain) text_pattern_ops);

SELECT projection.guard('document', 'shared'), projection.guard('hashtag', 'shared'), projection.guard('term', 'shared');

-- What queries search. Under row level security an index on words or hashtags is never used: their operators are not
-- leakproof, so the policy would have to be asked first, row by row. These views have the rights of a role that bypasses
-- policies and hold the tenant themselves; they are no barriers, because nobody but our own queries reads them.
CREATE VIEW found AS SELECT * FROM document WHERE tenant = (SELECT projection.tenant());
ALTER VIEW found OWNER TO cinelog_projector;
GRANT SELECT ON found TO cinelog_api;
CREATE VIEW spelt AS SELECT * FROM term WHERE tenant = (SELECT projection.tenant());
ALTER VIEW spelt OWNER TO cinelog_projector;
GRANT SELECT ON spelt TO cinelog_api;
