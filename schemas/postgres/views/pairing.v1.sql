-- Who likes whom, and who matched. What someone thinks of another is theirs alone until both like each other.
CREATE TABLE person (
    tenant   uuid NOT NULL,
    "user"   uuid NOT NULL,
    position bigint NOT NULL,                  -- of user.registered
    PRIMARY KEY (tenant, "user")
);
CREATE INDEX person_newest ON person (tenant, position DESC);

CREATE TABLE verdict (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    target   uuid NOT NULL,
    kind     text NOT NULL,                    -- like super pass ended
    position bigint NOT NULL,
    PRIMARY KEY (tenant, owner, target)
);

-- A match has two rows, one for each to see.
CREATE TABLE pair (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    other    uuid NOT NULL,
    position bigint NOT NULL,                  -- of match.made
    made_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, owner, other)
);
CREATE INDEX pair_newest ON pair (tenant, owner, position DESC);

SELECT projection.guard('person', 'shared'), projection.guard('verdict', 'private'), projection.guard('pair', 'private');
