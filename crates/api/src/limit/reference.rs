//! docs/reference/limits.md.

use super::{
    ANSWER_LIMIT, BODY_LIMIT, BODY_MAX, LIVE, OPEN_UPLOADS, RESERVING, SILENCE_LIMIT,
    SLOWEST_UPLOAD, UPLOADS, VERIFICATIONS, VERIFY_LIMIT, table,
};

/// The page.
pub fn limits() -> String {
    let [answer, verify, silence, sending] =
        [ANSWER_LIMIT, VERIFY_LIMIT, SILENCE_LIMIT, BODY_LIMIT].map(|limit| limit.as_secs());
    let (uploads, from_one) = UPLOADS;
    let (live, of_one) = LIVE;
    let (reserving, of_user) = RESERVING;
    let (verified, asked_by_one) = VERIFICATIONS;
    let (least, grace) = (SLOWEST_UPLOAD.0, SLOWEST_UPLOAD.1.as_secs());
    let rates = table::rates();
    format!(
        "# Limits

Generated from the code.

## How often

One too many is answered 429 `rate-limited` with `Retry-After`. Answers tell the caller's own rate by `RateLimit-Policy` and `RateLimit`,
as draft 10 of \"RateLimit header fields for HTTP\" has them: not a standard yet. `--rate-limits` changes lines by name, or turns
them off, but for those of proving who one is: `register` and what comes after it.

| rate | of one | requests | at once | a minute | counted |
|---|---|---|---|---|---|
{rates}

## How much

| what | limit | one more |
|---|---|---|
| body of JSON | {BODY_MAX} bytes | 413 `body-too-large` |
| time to send a body of JSON | {sending} s | 504 `timeout` |
| nesting of JSON | 128 | 400 `body-not-json`, or 422 `invalid-field` where no nesting is expected |
| headers | 100 | 431 |
| the request's line and headers together | 65536 bytes, of which what is read at once may make more; of HTTP/2, 16384 | 431, or 414 for the line |
| time to send the headers, and idle time of a connection | 30 s | the connection is closed |
| time until an answer begins | {answer} s; completing an upload, {verify} s | 504 `timeout` |
| silence of who sends a body to a folder store | {silence} s | 504 `timeout` |
| how slowly it may come, once that has taken {grace} s | {least} bytes a second | 504 `timeout` |
| time in which a client takes nothing of what it is sent | 60 s | the connection is closed; of HTTP/2, an answer that is made while it is sent ends |
| requests of one connection of HTTP/2 at once | 128 | waits |
| time in which a connection of HTTP/2 takes requests | 600 s | goes on in another one |
| connections | 50000, or all but 500 of the files that the process may open | waits |
| connections of one client, as rates count addresses, but for proxies that are trusted | an eighth of those | is closed |
| requests in progress | `--max-in-flight` | 503 `overloaded`, `Retry-After` |
| bodies of JSON that are being sent; from one address | `--max-in-flight`; a quarter | 503 `overloaded`, `Retry-After` |
| uploads that are being allowed; of one user | {reserving}; {of_user} | 503 `overloaded` |
| uploads of one user that are not over | {OPEN_UPLOADS} | 403 `uploads-open` |
| uploads to a folder in progress; from one address; of one object | {uploads}; {from_one}; 1 | 503; 503; 409 `contended` |
| stored objects that are read through at once; because one user asks; of one asset | {verified}; {asked_by_one}; 1 | 503; 503; 409 `contended` |
| streams of an asset's progress; of one user | {live}; {of_one} | 503 |
| streams of news; of one user | `--max-live`; {of_one} | 503 |
"
    )
}
