// What every JavaScript peer shares: requests as lines of JSON on stdin, answers as lines on stdout, and the loads.
// A peer gives: name, version, append(stream, expected) → the stream's version now, or throws {conflict: version};
// and for the other benches fill(n, rows), catchUp(n), rebuild(n, rows) and correct(…).

import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";

export const STREAMS = 1000;

/** About 300 bytes as stored, like ours. */
export const payload = () => ({ post: randomUUID(), user: randomUUID(), kind: "x".repeat(186) });

export const version = async (name) => {
  const { default: manifest } = await import(`./node_modules/${name}/package.json`, { with: { type: "json" } });
  return manifest.version;
};

/** Facts a second that `clients` append, each on the version that it believes; see benches/append.rs. */
const appendFor = async (peer, { clients, zipf, seconds, run }) => {
  const until = performance.now() + seconds * 1000;
  const begun = performance.now();
  const shared = new Map();
  const client = async (number) => {
    const versions = zipf ? shared : new Map();
    let facts = 0;
    while (performance.now() < until) {
      const n = zipf
        ? Math.min(Math.floor(Math.exp(Math.random() * Math.log(STREAMS))), STREAMS)
        : number * STREAMS + Math.floor(Math.random() * STREAMS);
      const before = versions.get(n) ?? 0;
      try {
        const now = await peer.append({ run, group: zipf ? n % 64 : number, n }, before);
        facts += 1;
        versions.set(n, Math.max(now, versions.get(n) ?? 0));
      } catch (error) {
        if (error.conflict === undefined) throw error;
        versions.set(n, Math.max(error.conflict, versions.get(n) ?? 0));
      }
    }
    return facts;
  };
  const facts = await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  return facts.reduce((a, b) => a + b, 0) / ((performance.now() - begun) / 1000);
};

/** Appends `events` by `writers`, each to streams of its own, while `tail` hands over what it sees; counts what went wrong. */
const correctFor = async (peer, { writers, events, run }) => {
  const seen = new Map();
  const last = new Map();
  const result = { lost: 0, doubled: 0, reordered: 0 };
  let handed = 0;
  const stop = await peer.tail(({ id, stream, version }) => {
    handed += 1;
    if (id === undefined) return; // of another load
    seen.set(id, (seen.get(id) ?? 0) + 1);
    if (seen.get(id) > 1) result.doubled += 1;
    else if (version <= (last.get(stream) ?? 0)) result.reordered += 1;
    last.set(stream, Math.max(version, last.get(stream) ?? 0));
  });
  const ids = [];
  const writer = async (number) => {
    for (let n = 0; n < events / writers; n += 1) {
      const id = randomUUID();
      await peer.append({ run, group: number, n: number * 10 + (n % 10), id }, Math.floor(n / 10));
      ids.push(id);
    }
  };
  await Promise.all(Array.from({ length: writers }, (_, number) => writer(number)));
  // What is not there when the tail has seen nothing for two seconds will not come.
  for (let before = -1; before !== handed; ) {
    before = handed;
    await new Promise((done) => setTimeout(done, 2000));
  }
  await stop();
  result.lost = ids.filter((id) => !seen.has(id)).length;
  return result;
};

export const serve = async (peer) => {
  const print = (answer) => console.log(JSON.stringify(answer));
  print({ name: peer.name, version: peer.version });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (request.do === "append") print(await appendFor(peer, request));
    else if (request.do === "correct") print(await correctFor(peer, request));
    else if (request.do === "fill") print(await peer.fill(request.facts, request.rows));
    else if (request.do === "catchup") print(await peer.catchUp(request.facts));
    else if (request.do === "rebuild") print(await peer.rebuild(request.facts, request.rows));
    else throw new Error(`unknown request ${line}`);
  }
  process.exit(0);
};
