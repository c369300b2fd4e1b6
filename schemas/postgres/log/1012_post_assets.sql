-- What a post carries becomes part of its stream's state, as its first fact folds to it: deciding whether somebody may see a
-- post asks the assets' streams. A post whose first fact has left for the archive stays without, as one that carries nothing.
SET LOCAL ROLE cinelog_log_owner;
UPDATE log.streams s SET state = s.state || jsonb_build_object('assets', e.payload->'assets')
FROM log.events e
WHERE e.type = 'post.published' AND e.payload->'assets' <> '[]'
  AND s.tenant = e.tenant AND s.stream_id = e.stream_id;
RESET ROLE;
