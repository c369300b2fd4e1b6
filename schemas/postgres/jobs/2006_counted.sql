-- What operators are told of jobs: how many there are and why some failed, and never whose they are. Views have their owner's
-- rights, so they hold the role themselves.
ALTER TABLE jobs.jobs ADD COLUMN ended_on timestamptz;     -- when the fact of its end was recorded
CREATE INDEX jobs_failed ON jobs.jobs (ended_on) WHERE state = 'failed';

CREATE VIEW jobs.counted WITH (security_barrier = true) AS
SELECT class, state, count(*) AS jobs, min(asked_on) AS oldest
FROM jobs.jobs
WHERE (SELECT current_setting('app.operator', true)) = 'true'
GROUP BY class, state;

-- Of the last hour, by what was the matter.
CREATE VIEW jobs.failing WITH (security_barrier = true) AS
SELECT coalesce(error->>'type', 'unknown') AS cause, count(*) AS jobs, max(ended_on) AS last
FROM jobs.jobs
WHERE state = 'failed' AND ended_on > now() - interval '1 hour'
    AND (SELECT current_setting('app.operator', true)) = 'true'
GROUP BY 1;

GRANT SELECT ON jobs.counted, jobs.failing TO cinelog_api;
