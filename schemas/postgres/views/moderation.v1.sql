-- What users report, what moderators hid, and whom they suspended.
CREATE TABLE report (
    tenant   uuid NOT NULL,
    target   uuid NOT NULL,                    -- a post or a comment
    "user"   uuid NOT NULL,                    -- who reports
    reason   text NOT NULL,
    text     text,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, target, "user")
);
CREATE INDEX report_newest ON report (tenant, target, position DESC);

-- Targets with open reports. A target's reports from `first` on are open; hiding or restoring it closes them all.
CREATE TABLE queue (
    tenant   uuid NOT NULL,
    target   uuid NOT NULL,
    post     uuid NOT NULL,
    comment  uuid,                             -- the target, when it is a comment on the post
    reports  bigint NOT NULL,
    first    bigint NOT NULL,                  -- of the reports: their places in the log
    last     bigint NOT NULL,
    PRIMARY KEY (tenant, target)
);
CREATE INDEX queue_oldest ON queue (tenant, first);
CREATE INDEX queue_post ON queue (tenant, post);

CREATE TABLE hidden (
    tenant   uuid NOT NULL,
    target   uuid NOT NULL,                    -- a post or a comment
    reason   text NOT NULL,
    "by"     uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, target)
);

-- Suspensions that were not lifted; whether time has ended one is for the reader to see.
CREATE TABLE suspension (
    tenant   uuid NOT NULL,
    "user"   uuid NOT NULL,
    until    timestamptz,                      -- none: until it is lifted
    reason   text NOT NULL,
    "by"     uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, "user")
);

SELECT projection.guard('report', 'shared'), projection.guard('queue', 'shared'),
       projection.guard('hidden', 'shared'), projection.guard('suspension', 'shared');

-- Who reported what, and why, is for moderators alone.
CREATE POLICY moderators ON report AS RESTRICTIVE FOR SELECT TO cinelog_api
    USING ((SELECT current_setting('app.moderator', true)) = 'true');
CREATE POLICY moderators ON queue AS RESTRICTIVE FOR SELECT TO cinelog_api
    USING ((SELECT current_setting('app.moderator', true)) = 'true');
