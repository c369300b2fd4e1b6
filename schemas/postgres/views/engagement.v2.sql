-- Comments, reactions, and how many there are of them, of shares and of views. All that happens under a post has the post's lane.
CREATE TABLE comment (
    tenant     uuid NOT NULL,
    comment    uuid NOT NULL,
    post       uuid NOT NULL,
    author     uuid NOT NULL,
    parent     uuid,
    text       text,
    deleted    boolean NOT NULL,               -- kept, without its text, for the answers to it
    position   bigint NOT NULL,
    created_at timestamptz NOT NULL,
    edited_at  timestamptz,
    PRIMARY KEY (tenant, comment)
);
CREATE INDEX comment_post ON comment (tenant, post, position);
CREATE INDEX comment_parent ON comment (tenant, parent, position) WHERE parent IS NOT NULL;

CREATE TABLE reaction (
    tenant   uuid NOT NULL,
    target   uuid NOT NULL,                    -- a post or a comment
    "user"   uuid NOT NULL,
    kind     text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, target, "user")
);
CREATE INDEX reaction_newest ON reaction (tenant, target, position DESC);

CREATE TABLE tally (
    tenant uuid NOT NULL,
    target uuid NOT NULL,
    kind   text NOT NULL,                      -- `comment`, `share`, `view`, or a kind of reaction
    n      bigint NOT NULL CHECK (n > 0),      -- nothing has no row
    PRIMARY KEY (tenant, target, kind)
) WITH (fillfactor = 70);

SELECT projection.guard('comment', 'shared'), projection.guard('reaction', 'shared'), projection.guard('tally', 'shared');
