-- Until when nothing is taken away, because objects were not looked through for long before: the database may be a restored one,
-- which lacks what names them (ADR 13).
ALTER TABLE jobs.sweeps ADD COLUMN spared_until timestamptz NOT NULL DEFAULT '-infinity';

-- What could not be taken away stands behind what nobody has tried to.
DROP INDEX jobs.objects_unnamed;
CREATE INDEX objects_unnamed ON jobs.objects (doomed_at NULLS FIRST, since) WHERE names = '{}' AND NOT gone;
