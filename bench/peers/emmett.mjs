// @event-driven-io/emmett-postgresql behind the requests of common.mjs. DATABASE_URL is a database of its own.

import pg from "pg";
import { getPostgreSQLEventStore, postgreSQLProjection, rebuildPostgreSQLProjections } from "@event-driven-io/emmett-postgresql";
import { STREAM_DOES_NOT_EXIST, isExpectedVersionConflictError } from "@event-driven-io/emmett";
import { payload, serve, version } from "./common.mjs";

const url = process.env.DATABASE_URL;
const pool = new pg.Pool({ connectionString: url, max: 64 });
const store = getPostgreSQLEventStore(url, { connectionOptions: { pool } });
await store.schema.migrate();

const named = ({ run, n }) => `reaction-${run}-${n}`;

const append = async (place, before) => {
  const event = { type: "reaction.added", data: { ...payload(), ...(place.id && { id: place.id }) } };
  const expectedStreamVersion = before === 0 ? STREAM_DOES_NOT_EXIST : BigInt(before);
  try {
    const { nextExpectedStreamVersion } = await store.appendToStream(named(place), [event], { expectedStreamVersion });
    return Number(nextExpectedStreamVersion);
  } catch (error) {
    if (!isExpectedVersionConflictError(error)) throw error;
    const { currentStreamVersion } = await store.readStream(named(place));
    throw { conflict: Number(currentStreamVersion) };
  }
};

const consumer = (processorId, eachMessage, options) => {
  const consumer = store.consumer({ pulling: { batchSize: 1000 }, ...options });
  consumer.reactor({ processorId, startFrom: "BEGINNING", eachMessage });
  return consumer;
};

let tails = 0;

/** Every row waits up to three milliseconds between its insert and its commit; the consumer sees what it sees. */
const tail = async (see) => {
  await pool.query(`
    CREATE OR REPLACE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(random() * 0.003); RETURN NULL; END $$;
    DROP TRIGGER IF EXISTS delayed ON emt_messages;
    CREATE CONSTRAINT TRIGGER delayed AFTER INSERT ON emt_messages DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION delay()`);
  const started = consumer(`tail-${(tails += 1)}`, ({ data, metadata }) => {
    see({ id: data.id, stream: metadata.streamName, version: Number(metadata.streamPosition) });
  }, { pulling: { batchSize: 100, pullingFrequencyInMs: 5 } });
  started.start().catch((error) => { console.error(error); process.exit(1); });
  return async () => {
    await started.close();
    await pool.query("DROP TRIGGER delayed ON emt_messages");
  };
};

/** As many events as appends would leave, evenly in `rows` streams; streams of ten unless said. */
const fill = async (facts, rows = facts / 10) => {
  await pool.query(
    `INSERT INTO emt_messages (stream_id, stream_position, partition, message_data, message_metadata,
       message_schema_version, message_type, message_id, transaction_id)
     SELECT 'reaction-fill-' || g % $2, g / $2 + 1, 'emt:default',
       jsonb_build_object('post', md5((g % $2)::text)::uuid, 'user', gen_random_uuid(), 'kind', repeat('x', 186)), '{}', '1',
       'reaction.added', gen_random_uuid()::text, pg_current_xact_id()
     FROM generate_series(0, $1::int - 1) g`, [facts, Math.ceil(rows)]);
  return facts;
};

const catchUp = async (facts) => {
  let seen = 0;
  const begun = performance.now();
  const reading = consumer(`catchup-${(tails += 1)}`, () => { seen += 1; }, { stopWhen: { noMessagesLeft: true } });
  await reading.start();
  const seconds = (performance.now() - begun) / 1000;
  await reading.close();
  if (seen < facts) throw new Error(`${seen} of ${facts} events were handed over`);
  return seen / seconds;
};

/** Reactions by post; what comes at once is folded in memory first. A rebuild hands over one event at a time. */
const tally = postgreSQLProjection({
  name: "tally",
  canHandle: ["reaction.added"],
  handle: async (events, { connection: { client } }) => {
    const counts = new Map();
    for (const { data } of events) counts.set(data.post, (counts.get(data.post) ?? 0) + 1);
    await client.query(
      `INSERT INTO tally SELECT * FROM unnest($1::uuid[], $2::bigint[])
       ON CONFLICT (post) DO UPDATE SET reactions = tally.reactions + EXCLUDED.reactions`,
      [[...counts.keys()], [...counts.values()]]);
  },
  truncate: ({ connection: { client } }) => client.query("TRUNCATE tally"),
});

const rebuild = async (facts, rows) => {
  await pool.query("CREATE TABLE IF NOT EXISTS tally (post uuid PRIMARY KEY, reactions bigint NOT NULL) WITH (fillfactor = 50)");
  const begun = performance.now();
  const rebuilding = rebuildPostgreSQLProjections({
    connectionString: url, pulling: { batchSize: 2000 },
    projections: [{ projection: tally, processorId: `tally-${(tails += 1)}`, truncateOnStart: true }],
  });
  await rebuilding.start();
  const seconds = (performance.now() - begun) / 1000;
  await rebuilding.close();
  const found = (await pool.query("SELECT count(*) AS rows, sum(reactions) AS facts FROM tally")).rows[0];
  if (Number(found.rows) !== rows || Number(found.facts) !== facts) throw new Error(`rebuilt ${found.facts} facts to ${found.rows} rows`);
  return facts / seconds;
};

await serve({ name: "emmett-postgresql", version: await version("@event-driven-io/emmett-postgresql"), append, tail, fill, catchUp, rebuild });
