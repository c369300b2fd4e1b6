-- What others did that concerns someone. Whose a post or a comment is, is known from facts of the same lane.
CREATE TABLE post (
    tenant uuid NOT NULL,
    post   uuid NOT NULL,
    author uuid NOT NULL,
    PRIMARY KEY (tenant, post)
);

CREATE TABLE comment (
    tenant   uuid NOT NULL,
    comment  uuid NOT NULL,
    author   uuid NOT NULL,
    parent   uuid,
    answered uuid,                             -- who wrote the parent
    deleted  boolean NOT NULL,
    PRIMARY KEY (tenant, comment)
);

-- One thing that `actor` did, as long as it is not taken back.
CREATE TABLE notice (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,                    -- who is told
    kind     text NOT NULL,
    target   uuid NOT NULL,                    -- a post or a comment of the owner's, else the owner
    actor    uuid NOT NULL,
    source   uuid NOT NULL,                    -- a comment, else the actor
    post     uuid,                             -- where it happened
    lane     smallint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, owner, kind, target, actor, source)
);
CREATE INDEX notice_newest ON notice (tenant, owner, kind, target, position DESC);

-- Notices of a kind about a target are shown as one. What concerns the owner alone comes from many lanes: each has its own row,
-- and the newest stands for all.
CREATE TABLE bundle (
    tenant uuid NOT NULL,
    owner  uuid NOT NULL,
    kind   text NOT NULL,
    target uuid NOT NULL,
    lane   smallint NOT NULL,
    post   uuid,
    newest bigint NOT NULL,                    -- position of the newest notice
    PRIMARY KEY (tenant, owner, kind, target, lane)
) WITH (fillfactor = 70);
CREATE INDEX bundle_newest ON bundle (tenant, owner, newest DESC);

-- Kinds that the owner does not want to be told of.
CREATE TABLE muted (
    tenant uuid NOT NULL,
    owner  uuid NOT NULL,
    kind   text NOT NULL,
    PRIMARY KEY (tenant, owner, kind)
);

SELECT projection.guard('post', 'shared'), projection.guard('comment', 'shared'), projection.guard('notice', 'private'),
       projection.guard('bundle', 'private'), projection.guard('muted', 'private');
