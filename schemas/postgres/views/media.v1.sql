-- Uploads, the assets they became, what was made from them, and the jobs that make it.
CREATE TABLE asset (
    tenant       uuid NOT NULL,
    asset        uuid NOT NULL,
    owner        uuid NOT NULL,
    state        text NOT NULL,                -- waiting preparing ready failed quarantined expired aborted deleted
    media_type   text NOT NULL,                -- as claimed
    bytes        bigint NOT NULL,
    sha256       text NOT NULL,
    storage_key  text NOT NULL,
    facts        jsonb,                        -- as measured
    error        jsonb,
    viewable     boolean NOT NULL,
    position     bigint NOT NULL,              -- of upload.requested
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, asset)
);
CREATE INDEX asset_owner ON asset (tenant, owner, position DESC);

-- What only the owner may see of an upload.
CREATE TABLE upload (
    tenant     uuid NOT NULL,
    asset      uuid NOT NULL,
    owner      uuid NOT NULL,
    file_name  text,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, asset)
);

CREATE TABLE rendition (
    tenant      uuid NOT NULL,
    asset       uuid NOT NULL,
    name        text NOT NULL,
    profile     text NOT NULL,
    job         uuid NOT NULL,
    storage_key text NOT NULL,
    media_type  text NOT NULL,
    bytes       bigint NOT NULL,
    sha256      text NOT NULL,
    width       int,
    height      int,
    duration_ms bigint,
    PRIMARY KEY (tenant, asset, name)
);

-- Outputs that a job could not make although others were made.
CREATE TABLE warning (
    tenant  uuid NOT NULL,
    asset   uuid NOT NULL,
    profile text NOT NULL,
    name    text NOT NULL,
    error   jsonb NOT NULL,
    PRIMARY KEY (tenant, asset, profile, name)
);

CREATE TABLE job (
    tenant   uuid NOT NULL,
    job      uuid NOT NULL,
    asset    uuid NOT NULL,
    owner    uuid NOT NULL,
    profile  text NOT NULL,
    state    text NOT NULL,                    -- queued done failed cancelled; running is known only to the queue
    error    jsonb,
    position bigint NOT NULL,                  -- of the fact that asked
    PRIMARY KEY (tenant, job)
);
CREATE INDEX job_asset ON job (tenant, asset);

SELECT projection.guard('asset', 'shared'), projection.guard('upload', 'private'), projection.guard('rendition', 'shared'),
       projection.guard('warning', 'shared'), projection.guard('job', 'private');
