-- What can be found. Who may see it is not here: a read joins the models that know.
CREATE TABLE document (
    tenant   uuid NOT NULL,
    kind     text NOT NULL,                    -- post person
    id       uuid NOT NULL,
    author   uuid NOT NULL,
    claimed  text,                             -- the language that the author names
    language text NOT NULL,                    -- the text search configuration
    title    text,
    body     text,
    place    text,
    hashtags text[] NOT NULL,
    public   boolean NOT NULL,
    position bigint NOT NULL,
    words    tsvector GENERATED ALWAYS AS (
        setweight(projection.words(language, title), 'A') || setweight(projection.words(language, body), 'B')
            || setweight(projection.words(language, place), 'C')) STORED,
    PRIMARY KEY (tenant, kind, id)
);
CREATE INDEX document_words ON document USING gin (words);
CREATE INDEX document_hashtags ON document USING gin (hashtags);
CREATE INDEX document_newest ON document (tenant, position DESC);

-- Public posts per hashtag; each lane has its own part of the sum.
CREATE TABLE hashtag (
    tenant uuid NOT NULL,
    tag    text NOT NULL,
    lane   smallint NOT NULL,
    posts  bigint NOT NULL CHECK (posts > 0),  -- nothing has no row
    PRIMARY KEY (tenant, tag, lane)
);
CREATE INDEX hashtag_prefix ON hashtag (tenant, tag text_pattern_ops);

SELECT projection.guard('document', 'shared'), projection.guard('hashtag', 'shared');

-- What queries search. Under row level security an index on words or hashtags is never used: their operators are not
-- leakproof, so the policy would have to be asked first, row by row. This view has the rights of a role that bypasses
-- policies and holds the tenant itself; it is no barrier, because nobody but our own queries reads it.
CREATE VIEW found AS SELECT * FROM document WHERE tenant = (SELECT projection.tenant());
ALTER VIEW found OWNER TO cinelog_projector;
GRANT SELECT ON found TO cinelog_api;
