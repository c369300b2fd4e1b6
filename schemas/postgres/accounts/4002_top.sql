-- Feeds in the order of how much is going on, as it was when somebody began to read: later pages come from here, so that none is
-- repeated or left out because something became hot meanwhile.
CREATE TABLE accounts.top_feeds (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    snapshot uuid NOT NULL,                    -- a UUIDv7: the newest is the greatest
    posts    uuid[] NOT NULL,
    PRIMARY KEY (tenant, owner, snapshot)
);

ALTER TABLE accounts.top_feeds ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts.top_feeds FORCE ROW LEVEL SECURITY;
CREATE POLICY private ON accounts.top_feeds TO cinelog_api
    USING (tenant = (SELECT projection.tenant()) AND owner = (SELECT projection.reader()));
GRANT SELECT, INSERT, DELETE ON accounts.top_feeds TO cinelog_api;
