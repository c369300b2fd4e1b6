-- Who people are and whom they follow.
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
CREATE INDEX relation_following ON relation (tenant, follower, state, position DESC);
CREATE INDEX relation_followers ON relation (tenant, followee, state, position DESC);

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

SELECT projection.guard('profile', 'shared'), projection.guard('relation', 'shared'), projection.guard('tally', 'shared');
