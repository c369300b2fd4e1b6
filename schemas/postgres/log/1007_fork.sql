-- Which log this one was before `cinelog log fork` made it another: a fork that is repeated finds itself done.
SET LOCAL ROLE cinelog_log_owner;
ALTER TABLE log.log ADD COLUMN forked_from uuid;
RESET ROLE;
