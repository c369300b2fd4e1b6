-- A build beside the one that is read, until it takes its place; what was read before goes on being kept true, so that there is a
-- way back (ADR 19).
ALTER TABLE projection.generations
    ADD COLUMN building boolean NOT NULL DEFAULT false,
    ADD COLUMN paused   boolean NOT NULL DEFAULT false,
    ADD COLUMN kept     boolean NOT NULL DEFAULT false;
