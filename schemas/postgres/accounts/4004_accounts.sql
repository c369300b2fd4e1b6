-- Accounts of our own: what proves who somebody is. A role of its own reads it, so that no query made for a user can, whatever
-- is wrong with that query.
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('cinelog roles'));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cinelog_accounts') THEN
        CREATE ROLE cinelog_accounts NOLOGIN;
    END IF;
    IF NOT pg_has_role(current_user, 'cinelog_accounts', 'MEMBER') THEN
        EXECUTE format('GRANT cinelog_accounts TO %I', current_user);
    END IF;
    -- Registering appends, in the transaction that takes the name.
    IF NOT pg_has_role('cinelog_accounts', 'cinelog_api', 'MEMBER') THEN
        GRANT cinelog_api TO cinelog_accounts;
    END IF;
END $$;

CREATE TABLE accounts.logins (
    tenant   uuid NOT NULL,
    account  uuid NOT NULL,                    -- what we, the issuer, call the user
    owner    uuid NOT NULL,                    -- the user
    handle   text NOT NULL,                    -- lower case
    email    bytea,                            -- under a key: who has the table has no addresses
    verified boolean NOT NULL DEFAULT false,   -- whether the address is the user's
    password text NOT NULL,                    -- Argon2id, PHC string
    roles    text[] NOT NULL DEFAULT '{}',
    made_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, account),
    CONSTRAINT handle UNIQUE (tenant, handle),
    CONSTRAINT email UNIQUE (tenant, email),
    UNIQUE (tenant, owner)
);

-- Where somebody is logged in. A session is over when its row is gone.
CREATE TABLE accounts.sessions (
    tenant     uuid NOT NULL,
    session    uuid NOT NULL,
    account    uuid NOT NULL,
    token      bytea NOT NULL,                 -- hash of the refresh token that holds
    before     bytea,                          -- of the one before it
    rotated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, session),
    FOREIGN KEY (tenant, account) REFERENCES accounts.logins ON DELETE CASCADE
);
CREATE INDEX ON accounts.sessions (tenant, account);
CREATE INDEX ON accounts.sessions (tenant, expires_at);

-- What a mail lets its reader do, once.
CREATE TABLE accounts.permits (
    tenant     uuid NOT NULL,
    permit     bytea NOT NULL,                 -- hash of what the mail says
    account    uuid NOT NULL,
    purpose    text NOT NULL CHECK (purpose IN ('verify', 'reset')),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, permit),
    FOREIGN KEY (tenant, account) REFERENCES accounts.logins ON DELETE CASCADE
);
CREATE INDEX ON accounts.permits (tenant, account);

-- Who may register where that is not open to all.
CREATE TABLE accounts.invites (
    tenant     uuid NOT NULL,
    invite     bytea NOT NULL,                 -- hash of the code
    made_by    uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, invite)
);

-- Machines that act for a user.
CREATE TABLE accounts.api_keys (
    tenant     uuid NOT NULL,
    key        uuid NOT NULL,
    owner      uuid NOT NULL,
    issuer     text NOT NULL,                  -- who vouches for the owner
    name       text NOT NULL,
    secret     bytea NOT NULL,                 -- hash
    asked      bytea NOT NULL,                 -- hash of what was asked for: a repeat is told from another request
    scopes     text[] NOT NULL,
    roles      text[] NOT NULL,
    made_at    timestamptz NOT NULL,
    expires_at timestamptz,
    deleted_at timestamptz,                    -- kept for a while, so that a repeated request does not bring it back
    PRIMARY KEY (tenant, key)
);
CREATE INDEX ON accounts.api_keys (tenant, owner, made_at);

-- Mails that are not sent yet. The address is gone as soon as they are.
CREATE TABLE accounts.mails (
    tenant  uuid NOT NULL,
    mail    uuid NOT NULL,
    account uuid NOT NULL,
    address text NOT NULL,
    subject text NOT NULL,
    body    text NOT NULL,
    tries   integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,              -- from when on it would be of no use
    PRIMARY KEY (tenant, mail),
    FOREIGN KEY (tenant, account) REFERENCES accounts.logins ON DELETE CASCADE
);
CREATE INDEX ON accounts.mails (next_at);

-- How often something was tried: leaky buckets for what is counted over all processes. Losing them in a crash is no harm.
CREATE UNLOGGED TABLE accounts.buckets (
    bucket bytea PRIMARY KEY,                  -- under a key: of an address or a name
    level  double precision NOT NULL,
    wait   double precision NOT NULL,          -- seconds until the last one would have had room; 0: it had
    at     timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX ON accounts.buckets (at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['logins', 'sessions', 'permits', 'invites', 'api_keys'] LOOP
        EXECUTE format('CREATE POLICY accounts ON accounts.%I TO cinelog_accounts USING (tenant = (SELECT projection.tenant()))', name);
    END LOOP;
    -- Sent and counted for all tenants by one.
    FOREACH name IN ARRAY ARRAY['mails', 'buckets'] LOOP
        EXECUTE format('CREATE POLICY accounts ON accounts.%I TO cinelog_accounts USING (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['logins', 'sessions', 'permits', 'invites', 'api_keys', 'mails', 'buckets'] LOOP
        EXECUTE format('ALTER TABLE accounts.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON accounts.%I TO cinelog_accounts', name);
    END LOOP;
END $$;
