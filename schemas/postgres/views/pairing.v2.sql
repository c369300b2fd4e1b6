-- Who likes whom, and who matched. What someone thinks of another is theirs alone until both like each other.
CREATE TABLE person (
    tenant   uuid NOT NULL,
    "user"   uuid NOT NULL,
    place    text,
    language text,
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

-- Who gave the owner a super-like that stands: the one thing that someone is told of what another thinks.
CREATE TABLE admirer (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    other    uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, owner, other)
);
CREATE INDEX admirer_newest ON admirer (tenant, owner, position DESC);

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

-- The hashtags of every post, because a post that is not for all may become so.
CREATE TABLE post (
    tenant   uuid NOT NULL,
    post     uuid NOT NULL,
    author   uuid NOT NULL,
    public   boolean NOT NULL,
    hashtags text[] NOT NULL,
    position bigint NOT NULL,                  -- of post.published
    PRIMARY KEY (tenant, post)
);

-- The hashtags of public posts: what their authors are interested in, as all may know.
CREATE TABLE interest (
    tenant   uuid NOT NULL,
    post     uuid NOT NULL,
    hashtag  text NOT NULL,
    author   uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, post, hashtag)
);
CREATE INDEX interest_author ON interest (tenant, author, position DESC) INCLUDE (hashtag);
CREATE INDEX interest_hashtag ON interest (tenant, hashtag, position DESC) INCLUDE (author);

SELECT projection.guard('person', 'shared'), projection.guard('verdict', 'private'), projection.guard('admirer', 'private'),
       projection.guard('pair', 'private'), projection.guard('post', 'shared'), projection.guard('interest', 'shared');
