-- Who asked to be erased (ADR 27): from the request until somebody with the rights has done it, and then as what says so. Whoever asked
-- has no token any more, so the row's id, which nobody can guess, is what they ask by.
CREATE TABLE accounts.erasures (
    tenant   uuid NOT NULL,
    owner    uuid NOT NULL,
    erasure  uuid NOT NULL UNIQUE,
    asked_at timestamptz NOT NULL,
    done_at  timestamptz,
    next_at  timestamptz NOT NULL,             -- when to try, or try again
    tries    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, owner)
);
CREATE INDEX ON accounts.erasures (next_at) WHERE done_at IS NULL;

-- Found by their ids, and carried out for all tenants by one.
CREATE POLICY accounts ON accounts.erasures TO cinelog_accounts USING (true);
ALTER TABLE accounts.erasures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON accounts.erasures TO cinelog_accounts;
