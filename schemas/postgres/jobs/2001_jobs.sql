-- The transcoder's work, folded from facts: dropping these tables loses nothing that a replay does not bring back.
CREATE SCHEMA jobs;
GRANT USAGE ON SCHEMA jobs TO cinelog_transcoder, cinelog_projector, cinelog_api;

CREATE TABLE jobs.jobs (
    job_id       uuid PRIMARY KEY,            -- UUIDv5(event that asked for it, profile)
    tenant       uuid NOT NULL,
    asset        uuid NOT NULL,
    owner        uuid NOT NULL,
    profile      text NOT NULL,
    class        smallint NOT NULL,           -- 0 interactive, 1 default, 2 bulk, 3 reprocess
    source_key   text NOT NULL,
    source_bytes bigint NOT NULL,
    source_sha256 text NOT NULL,
    state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts     int NOT NULL DEFAULT 0,
    not_before   timestamptz NOT NULL DEFAULT '-infinity',
    asked_at     bigint NOT NULL,             -- position of the fact that asked
    token        uuid,                        -- of the worker that has it
    lease_until  timestamptz,
    error        jsonb
);
CREATE INDEX jobs_waiting ON jobs.jobs (class, asked_at) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs.jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_asset ON jobs.jobs (tenant, asset);

-- Where a running job is: worth nothing after a crash, so not worth a write-ahead log.
CREATE UNLOGGED TABLE jobs.progress (
    job_id  uuid PRIMARY KEY,
    tenant  uuid NOT NULL,
    asset   uuid NOT NULL,
    stage   text NOT NULL,
    done    real NOT NULL CHECK (done BETWEEN 0 AND 1),
    eta_ms  bigint,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.jobs, jobs.progress TO cinelog_transcoder;
GRANT SELECT ON jobs.jobs, jobs.progress TO cinelog_projector;
