// What people do, at a steady rate: four requests in five read. Says whether fewer than one in a thousand fail and whether
// half are answered within 50 ms and 95 % within 200 ms. How to run it: README.md beside this.

import { check, fail } from 'k6';
import crypto from 'k6/crypto';
import http from 'k6/http';

const BASE = __ENV.BASE || 'http://127.0.0.1:8080';
const RATE = Number(__ENV.RATE || 500);
const SECONDS = Number(__ENV.SECONDS || 180);
// Sign-up takes 60 at once from one address.
const USERS = Number(__ENV.USERS || 40);
const POSTS = Number(__ENV.POSTS || 10);
// Where nobody may register: tokens of `cinelog token`, separated by commas.
const TOKENS = (__ENV.TOKENS || '').split(',').filter((token) => token !== '');
const WORDS = ['gato', 'perro', 'playa', 'verano', 'sol'];
const KINDS = ['like', 'love', 'laugh', 'wow'];

// Shares of all requests. An upload is three: ask, put, complete.
const READS = 0.8;
const UPLOADS = 0.006;
const COMMANDS = 1 - READS - UPLOADS;

// Arrivals come evenly spaced, so that a share of a second's requests need be no whole number.
function arrivals(exec, perSecond) {
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate: Math.max(1, Math.round(perSecond * 100)),
    timeUnit: '100s',
    duration: `${SECONDS}s`,
    preAllocatedVUs: Math.max(10, Math.ceil(perSecond / 2)),
    maxVUs: Math.max(20, Math.ceil(perSecond * 2)),
    tags: { load: 'yes' },
  };
}

export const options = {
  scenarios: {
    reads: arrivals('reads', RATE * READS),
    commands: arrivals('commands', RATE * COMMANDS),
    uploads: arrivals('uploads', (RATE * UPLOADS) / 3),
  },
  thresholds: {
    'http_req_failed{load:yes}': ['rate<0.001'],
    checks: ['rate>0.999'],
    'http_req_duration{load:yes}': ['p(50)<50', 'p(95)<200'],
    // What was not begun was not answered in time either.
    dropped_iterations: [`count<${Math.ceil((RATE * SECONDS) / 1000)}`],
  },
  summaryTrendStats: ['p(50)', 'p(95)', 'p(99)', 'max'],
  setupTimeout: '5m',
};

const pick = (list) => list[Math.floor(Math.random() * list.length)];

// One of [weight, …] rows, the heavier the more often.
function weighted(rows) {
  let at = Math.random() * rows.reduce((sum, [weight]) => sum + weight, 0);
  return rows.find(([weight]) => (at -= weight) < 0) || rows[0];
}

// A request of `user`; `name` stands for all URLs of its kind.
function call(user, method, path, body, name) {
  const headers = { authorization: `Bearer ${user.token}` };
  if (body !== null) headers['content-type'] = 'application/json';
  const sent = body === null ? null : JSON.stringify(body);
  return http.request(method, `${BASE}/v1${path}`, sent, { headers, tags: { name: `${method} ${name}` } });
}

// ---- who there is, and what they have posted -----------------------------------------------------------------------

function register(run, n) {
  const handle = `k6-${run}-${n}`;
  const body = JSON.stringify({ handle, password: `not secret: ${handle}`, name: `K6 ${n}` });
  const answer = http.post(`${BASE}/v1/auth/register`, body, { headers: { 'content-type': 'application/json' } });
  if (answer.status !== 201) fail(`nobody may register: give TOKENS. ${answer.status} ${answer.body}`);
  return answer.json('access_token');
}

export function setup() {
  const run = Date.now().toString(36);
  const tokens = TOKENS.length > 0 ? TOKENS : [...Array(USERS).keys()].map((n) => register(run, n));
  const users = tokens.map((token) => ({ token }));
  const posts = [];
  for (const user of users) {
    for (let n = 0; n < POSTS; n += 1) {
      const answer = call(user, 'POST', '/posts', { text: `El ${pick(WORDS)} y el ${pick(WORDS)} #${pick(WORDS)}` }, '/posts');
      if (answer.status !== 201) fail(`no post: ${answer.status} ${answer.body}`);
      user.id = answer.json('author');
      posts.push(answer.json('id'));
    }
  }
  users.forEach((user, n) => {
    for (let next = 1; next <= Math.min(10, users.length - 1); next += 1) {
      const other = users[(n + next) % users.length];
      call(user, 'PUT', `/users/${other.id}/follow`, null, '/users/{id}/follow');
    }
  });
  return { users, posts };
}

// ---- what they do --------------------------------------------------------------------------------------------------

export function reads({ users, posts }) {
  const rows = [
    [30, '/feed', () => '/feed'],
    [20, '/posts/{id}', () => `/posts/${pick(posts)}`],
    [15, '/posts/{id}/comments', () => `/posts/${pick(posts)}/comments`],
    [15, '/users/{id}', () => `/users/${pick(users).id}`],
    [10, '/search', () => `/search?q=${pick(WORDS)}`],
    [10, '/notifications', () => '/notifications'],
  ];
  const [, name, path] = weighted(rows);
  const answer = call(pick(users), 'GET', path(), null, name);
  check(answer, { 'a read gives JSON': (read) => read.status === 200 && read.json() !== null });
}

export function commands({ users, posts }) {
  const [user, post] = [pick(users), pick(posts)];
  const other = pick(users.filter(({ id }) => id !== user.id));
  const rows = [
    [55, 'PUT', '/posts/{id}/reactions/{kind}', `/posts/${post}/reactions/${pick(KINDS)}`, null],
    [25, 'POST', '/posts/{id}/comments', `/posts/${post}/comments`, { text: `¡Qué ${pick(WORDS)}!` }],
    [15, 'POST', '/posts', '/posts', { text: `Otro ${pick(WORDS)} #${pick(WORDS)}` }],
    [5, 'PUT', '/users/{id}/follow', `/users/${other.id}/follow`, null],
  ];
  const [, method, name, path, body] = weighted(rows);
  const answer = call(user, method, path, body, name);
  check(answer, { 'a command is accepted': (told) => told.status >= 200 && told.status < 300 });
}

// A quarter of a second of noise, as WAV: 8 kHz, 16 bits, one channel. No two are the same.
function clip() {
  const samples = 2000;
  const view = new DataView(new ArrayBuffer(44 + 2 * samples));
  const text = (at, word) => [...word].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  text(0, 'RIFF');
  view.setUint32(4, 36 + 2 * samples, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, 8000, true);
  view.setUint32(28, 16000, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, 2 * samples, true);
  for (let n = 0; n < samples; n += 1) view.setInt16(44 + 2 * n, (Math.random() - 0.5) * 8000, true);
  return view.buffer;
}

export function uploads({ users }) {
  const [user, bytes] = [pick(users), clip()];
  const wanted = { name: 'k6.wav', type: 'audio/wav', bytes: bytes.byteLength, sha256: crypto.sha256(bytes, 'hex') };
  const ticket = call(user, 'POST', '/uploads', wanted, '/uploads');
  if (!check(ticket, { 'an upload may begin': (told) => told.status === 201 })) return;
  const { id, url, headers } = ticket.json();
  // k6 sets the length itself.
  delete headers['content-length'];
  const stored = http.put(url, bytes, { headers, tags: { name: 'PUT bytes' } });
  if (!check(stored, { 'bytes are stored': (told) => told.status >= 200 && told.status < 300 })) return;
  const done = call(user, 'POST', `/uploads/${id}/complete`, null, '/uploads/{id}/complete');
  check(done, { 'an upload is complete': (told) => told.status === 202 });
}
