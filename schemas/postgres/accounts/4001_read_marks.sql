-- State of users that is not history: no fact is behind it, and no rebuild brings it back.
CREATE SCHEMA accounts;
GRANT USAGE ON SCHEMA accounts TO cinelog_api;

-- Up to which position an owner has read all notifications.
CREATE TABLE accounts.read_marks (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, owner)
) WITH (fillfactor = 70);

ALTER TABLE accounts.read_marks ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts.read_marks FORCE ROW LEVEL SECURITY;
CREATE POLICY private ON accounts.read_marks TO cinelog_api
    USING (tenant = (SELECT projection.tenant()) AND owner = (SELECT projection.reader()));
GRANT SELECT, INSERT, UPDATE ON accounts.read_marks TO cinelog_api;
