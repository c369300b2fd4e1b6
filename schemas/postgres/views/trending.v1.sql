-- Public posts with hashtags, as far as counting their uses needs it.
CREATE TABLE post (
    tenant   uuid NOT NULL,
    post     uuid NOT NULL,
    author   uuid NOT NULL,
    tags     text[] NOT NULL,
    claimed  boolean NOT NULL,                 -- the language is what its author names, not what the text looks like
    language text,                             -- BCP 47
    place    text,                             -- lower case
    hour     bigint NOT NULL,                  -- since 1970
    public   boolean NOT NULL,
    PRIMARY KEY (tenant, post)
);
CREATE INDEX post_author ON post (tenant, author);

-- Uses of a hashtag in an hour, in each scope: all (empty), a language (`language:es`), a place (`place:málaga`). Each lane has its
-- own part of the sum.
CREATE TABLE used (
    tenant uuid NOT NULL,
    scope  text NOT NULL,
    hour   bigint NOT NULL,
    tag    text NOT NULL,
    lane   smallint NOT NULL,
    posts  bigint NOT NULL CHECK (posts > 0),  -- nothing has no row
    PRIMARY KEY (tenant, scope, hour, tag, lane)
);

SELECT projection.guard('post', 'shared'), projection.guard('used', 'shared');
