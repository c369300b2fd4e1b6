-- What lies in the bucket and may be nobody's (ADR 13). A job writes down where it is about to put an output before it puts it,
-- and an upload is written down from the fact that allows it: so what no fact names can be found, and the bucket is never listed.
-- `names` follow from facts, by a subscription of their own: whoever empties this table deletes its checkpoints with it.
CREATE TABLE jobs.objects (
    storage_key text PRIMARY KEY,
    tenant      uuid NOT NULL,
    asset       uuid NOT NULL,
    names       text[] NOT NULL,                -- what the asset has there now: outputs by name, '' for its original
    since       timestamptz NOT NULL,           -- when someone was last about to put or to name it, or it lost its last name
    doomed_at   timestamptz,                    -- from then on nobody may use this key: someone takes away what lies there
    gone        boolean NOT NULL DEFAULT false  -- that is done
);
CREATE INDEX objects_asset ON jobs.objects (tenant, asset);
CREATE INDEX objects_unnamed ON jobs.objects (since) WHERE names = '{}' AND NOT gone;
CREATE INDEX objects_gone ON jobs.objects (doomed_at) WHERE gone;

-- When objects were last looked through, a row: who does it holds it.
CREATE TABLE jobs.sweeps (at timestamptz NOT NULL);
INSERT INTO jobs.sweeps VALUES (now());

GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.objects TO cinelog_transcoder;
GRANT SELECT, UPDATE ON jobs.sweeps TO cinelog_transcoder;

-- CPU time that attempts took which have not ended the job.
ALTER TABLE jobs.jobs ADD COLUMN cpu_ms bigint NOT NULL DEFAULT 0;
