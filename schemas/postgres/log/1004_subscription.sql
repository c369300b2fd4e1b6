-- How far every subscriber has come: shared by the projectors and the transcoder.
CREATE SCHEMA subscription;
GRANT USAGE ON SCHEMA subscription TO cinelog_api, cinelog_projector, cinelog_transcoder;

-- One row per subscription and lane, there from the subscription's first start. It moves by compare-and-set, first in
-- the transaction that writes what the facts mean.
CREATE TABLE subscription.checkpoints (
    subscription text NOT NULL,
    lane         smallint NOT NULL CHECK (lane BETWEEN 0 AND 63),
    position     bigint NOT NULL DEFAULT 0,
    kafka_offset bigint NOT NULL DEFAULT 0,   -- a hint where to look in the lane's partition, never trusted
    PRIMARY KEY (subscription, lane)
) WITH (fillfactor = 50);

-- Who works on which lane, until when. A lane whose lease ran out may be taken by anyone.
CREATE TABLE subscription.leases (
    subscription text NOT NULL,
    lane         smallint NOT NULL,
    owner        uuid,
    until        timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (subscription, lane)
) WITH (fillfactor = 50);

-- The processes that share a subscription's lanes; each says that it lives.
CREATE TABLE subscription.members (
    subscription text NOT NULL,
    member       uuid NOT NULL,
    until        timestamptz NOT NULL,
    PRIMARY KEY (subscription, member)
);

-- Subjects set aside because a fact of theirs could not be applied; their later facts queue here behind it.
CREATE TABLE subscription.parked (
    subscription text NOT NULL,
    tenant       uuid NOT NULL,
    subject      text NOT NULL,
    position     bigint NOT NULL,
    lane         smallint NOT NULL,
    error        text,                        -- the first fact of a subject says why
    parked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription, tenant, subject, position)
);

GRANT SELECT ON ALL TABLES IN SCHEMA subscription TO cinelog_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA subscription TO cinelog_projector, cinelog_transcoder;
