-- Moving checkpoints is what is asked of the database most often, by subscribers that each have a search_path of their own: as a
-- statement of theirs it was planned anew each time. A function keeps its plans, also those that were made while the log was empty.
--
-- Moves the checkpoints of `lanes` that are where they are known to be to where these events are, unless the log does not hold one of
-- those: then `ahead` is the first such position. `parked` says whether subjects of these lanes are. The transaction does
-- not wait for the disk: losing the checkpoints loses what they stand for too.
CREATE FUNCTION subscription.advance(
    of_subscription text, lanes smallint[], known bigint[], positions bigint[], events uuid[], offsets bigint[],
    OUT ahead bigint, OUT moved bigint, OUT parked boolean
) LANGUAGE plpgsql SET search_path = pg_catalog SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT min(u.position) INTO ahead
    FROM unnest(positions, events) AS u(position, event), log.log l
    WHERE u.position >= l.floor AND NOT EXISTS (
        SELECT FROM log.events e WHERE e.position = u.position AND e.event_id = u.event);
    IF ahead IS NULL THEN
        UPDATE subscription.checkpoints c SET position = u.position, kafka_offset = u.kafka_offset
        FROM unnest(lanes, known, positions, offsets) AS u(lane, known, position, kafka_offset)
        WHERE c.subscription = of_subscription AND c.lane = u.lane AND c.position = u.known;
        GET DIAGNOSTICS moved = ROW_COUNT;
    END IF;
    -- A subject is parked by a step of its lane, which waits for this one now: one that was parked before is seen.
    parked := EXISTS (
        SELECT FROM subscription.parked p WHERE p.subscription = of_subscription AND p.lane = ANY (lanes));
END
$$;
