-- Who people are, whom they follow, and whom they want to see nothing of.
CREATE TABLE profile (
    tenant   uuid NOT NULL,
    "user"   uuid NOT NULL,
    name     text,
    bio      text,
    place    text,
    language text,
    private  boolean NOT NULL,
    position bigint NOT NULL,                  -- of user.registered
    PRIMARY KEY (tenant, "user")
);

CREATE TABLE relation (
    tenant   uuid NOT NULL,
    follower uuid NOT NULL,
    followee uuid NOT NULL,
    state    text NOT NULL,                    -- requested following
    position bigint NOT NULL,                  -- since when it is so
    PRIMARY KEY (tenant, follower, followee)
);
CREATE INDEX relation_following ON relation (tenant, follower, state, position DESC) INCLUDE (followee);
CREATE INDEX relation_followers ON relation (tenant, followee, state, position DESC) INCLUDE (follower);

-- A user's pairs are spread over lanes, so each lane has its own part of the sum.
CREATE TABLE tally (
    tenant    uuid NOT NULL,
    "user"    uuid NOT NULL,
    lane      smallint NOT NULL,
    followers bigint NOT NULL,
    following bigint NOT NULL,
    CHECK (followers > 0 OR following > 0),    -- nothing has no row
    PRIMARY KEY (tenant, "user", lane)
) WITH (fillfactor = 70);

-- Two of whom one has blocked the other have a row each: whoever it was, a reader's own row says so, and nobody can read
-- another's.
CREATE TABLE block (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    other    uuid NOT NULL,
    given    bigint,                           -- since when the owner blocks the other
    received bigint,                           -- since when the other blocks the owner
    CHECK (given IS NOT NULL OR received IS NOT NULL),
    PRIMARY KEY (tenant, owner, other)
);
CREATE INDEX block_given ON block (tenant, owner, given DESC) WHERE given IS NOT NULL;

CREATE TABLE mute (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    other    uuid NOT NULL,
    position bigint NOT NULL,                  -- since when it is so
    PRIMARY KEY (tenant, owner, other)
);
CREATE INDEX mute_newest ON mute (tenant, owner, position DESC);

SELECT projection.guard('profile', 'shared'), projection.guard('relation', 'shared'), projection.guard('tally', 'shared'),
       projection.guard('block', 'private'), projection.guard('mute', 'private');
