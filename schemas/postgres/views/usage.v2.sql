-- What owners take up: bytes of their originals and of what was made from them, and the CPU time that making it took.
CREATE TABLE asset (
    tenant         uuid NOT NULL,
    asset          uuid NOT NULL,
    owner          uuid NOT NULL,
    original_bytes bigint NOT NULL,
    derived        jsonb NOT NULL,             -- bytes of each output by its name; of a deleted asset none
    cpu_ms         bigint NOT NULL,            -- spent, whatever became of it
    PRIMARY KEY (tenant, asset)
);

-- Sums over an owner's assets, in each lane one: a reader adds them up.
CREATE TABLE total (
    tenant         uuid NOT NULL,
    owner          uuid NOT NULL,
    lane           smallint NOT NULL,
    assets         bigint NOT NULL,
    original_bytes bigint NOT NULL,
    derived_bytes  bigint NOT NULL,
    cpu_ms         bigint NOT NULL,
    PRIMARY KEY (tenant, owner, lane)
) WITH (fillfactor = 70);

SELECT projection.guard('asset', 'private'), projection.guard('total', 'private');

-- Who runs the platform sees all sums, and nobody's assets.
CREATE POLICY operators ON total FOR SELECT TO cinelog_api
    USING ((SELECT current_setting('app.operator', true)) = 'true');
