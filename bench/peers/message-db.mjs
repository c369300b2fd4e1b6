// message-db, a message store in SQL, behind the requests of common.mjs. DATABASE_URL is a database of its own, into
// which its SQL is put first. It locks a category for each write: 64 categories, which suits it.

import { readFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import pg from "pg";
import { payload, serve, version } from "./common.mjs";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 64, options: "-c search_path=message_store,public" });
const sql = (file) => readFileSync(new URL(`node_modules/@eventide/message-db/database/${file}.sql`, import.meta.url), "utf8");
const functions = ["message-store-version", "hash-64", "acquire-lock", "category", "is-category", "id", "cardinal-id",
  "stream-version", "write-message", "get-stream-messages", "get-category-messages", "get-last-stream-message"];
for (const file of ["schema/message-store", "extensions/pgcrypto", "tables/messages", "types/message",
  ...functions.map((name) => `functions/${name}`),
  "indexes/messages-id", "indexes/messages-stream", "indexes/messages-category"]) {
  // Its indexes are made CONCURRENTLY, which must be alone in its statement.
  for (const statement of file.startsWith("indexes/") ? sql(file).split(/;\s*\n/) : [sql(file)]) {
    if (statement.trim()) await pool.query(statement);
  }
}

const append = async ({ run, group, n, id }, before) => {
  const text = "SELECT message_store.write_message($1, $2, $3, $4, NULL, $5) AS position";
  const stream = `reaction${run}x${group}-${n}`;
  const values = [id ?? randomUUID(), stream, "ReactionAdded", payload(), before - 1];
  try {
    const { rows } = await pool.query({ name: "write", text, values });
    return Number(rows[0].position) + 1;
  } catch (error) {
    const [, now] = /Stream Version: (-?\d+)/.exec(error.message) ?? [];
    throw now === undefined ? error : { conflict: Number(now) + 1 };
  }
};

/** Reads category by category, as its consumers do; it has no log over all of them. */
const tail = async (see) => {
  await pool.query(`
    CREATE OR REPLACE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(random() * 0.003); RETURN NULL; END $$;
    DROP TRIGGER IF EXISTS delayed ON messages;
    CREATE CONSTRAINT TRIGGER delayed AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION delay()`);
  const { rows } = await pool.query("SELECT COALESCE(max(global_position), 0) + 1 AS next FROM messages");
  const places = new Map();
  let running = true;
  const follow = async () => {
    while (running) {
      const found = await pool.query("SELECT DISTINCT category(stream_name) AS name FROM messages WHERE global_position >= $1", [rows[0].next]);
      for (const { name } of found.rows) {
        const batch = await pool.query("SELECT * FROM get_category_messages($1, $2, 1000)", [name, places.get(name) ?? rows[0].next]);
        for (const message of batch.rows) {
          places.set(name, BigInt(message.global_position) + 1n);
          see({ id: message.id, stream: message.stream_name, version: Number(message.position) + 1 });
        }
      }
    }
  };
  const following = follow();
  return async () => {
    running = false;
    await following;
    await pool.query("DROP TRIGGER delayed ON messages");
  };
};

await serve({ name: "message-db", version: await version("@eventide/message-db"), append, tail });
