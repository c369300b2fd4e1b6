-- How much of storage who may take up, and the uploads that are not over.
CREATE TABLE accounts.plans (
    plan  text PRIMARY KEY,
    bytes bigint NOT NULL CHECK (bytes >= 0)   -- of originals and all made from them
);
INSERT INTO accounts.plans VALUES ('free', 1000000000);

-- Who has another plan than that of everybody.
CREATE TABLE accounts.subscribers (
    tenant uuid NOT NULL,
    owner  uuid NOT NULL,
    plan   text NOT NULL REFERENCES accounts.plans,
    PRIMARY KEY (tenant, owner)
);

-- An upload from its permission until all know what became of it: reserves its bytes, and is looked after.
CREATE TABLE accounts.uploads (
    tenant     uuid NOT NULL,
    asset      uuid NOT NULL,
    owner      uuid NOT NULL,
    bytes      bigint NOT NULL,                -- that it reserves; none once it was given up
    upload     text,                           -- what the bucket calls it, where it comes in parts
    part_bytes bigint,                         -- the size of those
    expires_at timestamptz NOT NULL,
    next_at    timestamptz NOT NULL,           -- when to look what became of it
    looks      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, asset)
);
CREATE INDEX ON accounts.uploads (tenant, owner);
CREATE INDEX ON accounts.uploads (next_at);

DO $$
DECLARE
    name text;
BEGIN
    -- Looked after for all tenants by one.
    CREATE POLICY accounts ON accounts.uploads TO cinelog_accounts USING (true);
    CREATE POLICY accounts ON accounts.subscribers TO cinelog_accounts USING (tenant = (SELECT projection.tenant()));
    CREATE POLICY accounts ON accounts.plans FOR SELECT TO cinelog_accounts USING (true);
    -- Nobody's; changed by who owns the schema.
    EXECUTE format('CREATE POLICY owner ON accounts.plans TO %I USING (true)', current_user);
    FOREACH name IN ARRAY ARRAY['uploads', 'subscribers', 'plans'] LOOP
        EXECUTE format('ALTER TABLE accounts.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    END LOOP;
    GRANT SELECT, INSERT, UPDATE, DELETE ON accounts.uploads, accounts.subscribers TO cinelog_accounts;
    GRANT SELECT ON accounts.plans TO cinelog_accounts;
END $$;
