-- Who posted what, who follows whom, and the feeds that follow from it.
CREATE TABLE post (
    tenant       uuid NOT NULL,
    post         uuid NOT NULL,
    author       uuid NOT NULL,
    position     bigint NOT NULL,              -- of post.published: the post's place in every feed
    visibility   text NOT NULL,
    shown        bigint NOT NULL,              -- position of the fact that said so
    text         text,
    place        text,
    language     text,
    assets       uuid[] NOT NULL,
    published_at timestamptz NOT NULL,
    edited_at    timestamptz,
    PRIMARY KEY (tenant, post)
);
CREATE INDEX post_author ON post (tenant, author, position DESC);
CREATE UNIQUE INDEX post_position ON post (tenant, position);

-- How much is going on under a post, and when it was written, as one number that needs no rewriting as time goes by: ten times the
-- points weigh as much as 45,000 seconds.
CREATE TABLE hot (
    tenant  uuid NOT NULL,
    post    uuid NOT NULL,
    points  bigint NOT NULL,
    seconds bigint NOT NULL,                   -- when it was written, since 1970
    hot     double precision NOT NULL,
    PRIMARY KEY (tenant, post)
) WITH (fillfactor = 70);

-- Where posts were written: in a cell of each size that is searched by, as a geohash.
CREATE TABLE near (
    tenant    uuid NOT NULL,
    cell      text NOT NULL,
    post      uuid NOT NULL,
    position  bigint NOT NULL,
    latitude  double precision NOT NULL,
    longitude double precision NOT NULL,
    PRIMARY KEY (tenant, cell, post)
);
CREATE INDEX near_newest ON near (tenant, cell, position DESC);
CREATE INDEX near_post ON near (tenant, post);

-- Which posts show an asset. A table, because row level security lets no index on an array be used.
CREATE TABLE carried (
    tenant uuid NOT NULL,
    asset  uuid NOT NULL,
    post   uuid NOT NULL,
    PRIMARY KEY (tenant, asset, post)
);

CREATE TABLE follow (
    tenant   uuid NOT NULL,
    follower uuid NOT NULL,
    followee uuid NOT NULL,
    PRIMARY KEY (tenant, follower, followee)
);
CREATE INDEX follow_followee ON follow (tenant, followee, follower);

-- Assets that have something to look at. A post with others is its author's alone.
CREATE TABLE viewable (
    tenant   uuid NOT NULL,
    asset    uuid NOT NULL,
    position bigint NOT NULL,                  -- of the fact since when it has
    PRIMARY KEY (tenant, asset)
);

-- The cache. A reader's entries above the floor are complete for every followed author who is not pulled; they may hold
-- more (unfollowed, deleted, hidden), so a read joins the tables above. A post's fan-out and a follow's backfill both
-- lock the author's row first, so that neither misses the other.
CREATE TABLE author (
    tenant uuid NOT NULL,
    author uuid NOT NULL,
    pulled boolean NOT NULL DEFAULT false,     -- had too many followers once: feeds read the author's posts directly
    PRIMARY KEY (tenant, author)
) WITH (fillfactor = 50);
COMMENT ON TABLE author IS 'cache';

-- Whoever has no row has the floor of the nil reader. It is above everything while a build is filled: nothing is kept ready, until
-- everything is at once. Without that row it is 0.
CREATE TABLE reader (
    tenant uuid NOT NULL,
    owner  uuid NOT NULL,
    floor  bigint NOT NULL,                    -- at and below it, entries were cut away
    PRIMARY KEY (tenant, owner)
) WITH (fillfactor = 50);
COMMENT ON TABLE reader IS 'cache';

-- As narrow as can be, because nothing else has so many rows: what a post is called and whose it is, is found by its position.
CREATE TABLE feed_entry (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,                    -- the reader
    position bigint NOT NULL,                  -- the post's
    PRIMARY KEY (tenant, owner, position)
);
COMMENT ON TABLE feed_entry IS 'cache';

SELECT projection.guard('post', 'shared'), projection.guard('carried', 'shared'),
       projection.guard('hot', 'shared'),
       projection.guard('near', 'shared'), projection.guard('follow', 'shared'), projection.guard('viewable', 'shared'),
       projection.guard('author', 'shared'), projection.guard('reader', 'private'), projection.guard('feed_entry', 'private');
