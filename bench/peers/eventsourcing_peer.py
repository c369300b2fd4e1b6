"""Python's eventsourcing behind the requests of common.mjs: its recorder of an application's events, a thread a client.

DATABASE_URL is a database of its own.
"""

import importlib.metadata
import json
import math
import os
import random
import sys
import threading
import time
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

STREAMS = 1000
url = urlsplit(os.environ["DATABASE_URL"])
datastore = PostgresDatastore(
    dbname=url.path.lstrip("/"),
    host=parse_qs(url.query).get("host", [url.hostname])[0],
    port=str(url.port or 5432),
    user=unquote(url.username or "postgres"),
    password=unquote(url.password or ""),
    pool_size=64,
    max_overflow=0,
    max_waiting=256,
    connect_timeout=60,
)
recorder = PostgresApplicationRecorder(datastore, events_table_name="events")
recorder.create_table()


def append(stream: UUID, before: int, event_id: str | None = None) -> int:
    payload = {"post": str(uuid4()), "user": str(uuid4()), "kind": "x" * 186, "id": event_id}
    event = StoredEvent(stream, before + 1, "reaction.added", json.dumps(payload).encode())
    recorder.insert_events([event])
    return before + 1


def in_threads(count: int, work) -> list:
    answers: list = [None] * count

    def run(number: int) -> None:
        try:
            answers[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - told to the caller below
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def append_for(clients: int, zipf: bool, seconds: float, run: int) -> float:
    begun = time.monotonic()
    shared: dict[int, int] = {}

    def client(number: int) -> int:
        versions = shared if zipf else {}
        facts = 0
        while time.monotonic() - begun < seconds:
            if zipf:
                n = min(int(math.exp(random.random() * math.log(STREAMS))), STREAMS)
            else:
                n = number * STREAMS + random.randrange(STREAMS)
            stream = UUID(int=run << 64 | n)
            before = versions.get(n, 0)
            try:
                now = append(stream, before)
                facts += 1
            except IntegrityError:
                last = recorder.select_events(stream, desc=True, limit=1)
                now = last[0].originator_version if last else 0
            versions[n] = max(now, versions.get(n, 0))
        return facts

    return sum(in_threads(clients, client)) / (time.monotonic() - begun)


DELAY_FUNCTION = """
CREATE OR REPLACE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(random() * 0.003); RETURN NULL; END $$"""
DELAY_TRIGGER = """
CREATE CONSTRAINT TRIGGER delayed AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION delay()"""


def correct_for(writers: int, events: int, run: int) -> dict:
    with datastore.transaction(commit=True) as cursor:
        cursor.execute(DELAY_FUNCTION)
        cursor.execute(DELAY_TRIGGER)
    handed = 0
    seen: dict[str, int] = {}
    last: dict[UUID, int] = {}
    result = {"lost": 0, "doubled": 0, "reordered": 0}
    ended = threading.Event()

    def tail() -> None:
        nonlocal handed
        place = 0
        while not ended.is_set():
            for event in recorder.select_notifications(start=place or None, limit=1000, inclusive_of_start=False):
                place = event.id
                handed += 1
                event_id = json.loads(event.state)["id"]
                if event_id is None:
                    continue
                seen[event_id] = seen.get(event_id, 0) + 1
                if seen[event_id] > 1:
                    result["doubled"] += 1
                elif event.originator_version <= last.get(event.originator_id, 0):
                    result["reordered"] += 1
                last[event.originator_id] = max(event.originator_version, last.get(event.originator_id, 0))

    follower = threading.Thread(target=tail)
    follower.start()

    def writer(number: int) -> list[str]:
        ids = []
        for n in range(events // writers):
            event_id = str(uuid4())
            append(UUID(int=run << 64 | number * 10 + n % 10), n // 10, event_id)
            ids.append(event_id)
        return ids

    ids = [one for part in in_threads(writers, writer) for one in part]
    before = -1
    while before != handed:
        before = handed
        time.sleep(2)
    ended.set()
    follower.join()
    result["lost"] = sum(one not in seen for one in ids)
    with datastore.transaction(commit=True) as cursor:
        cursor.execute("DROP TRIGGER delayed ON events")
    return result


def main() -> None:
    print(json.dumps({"name": "eventsourcing", "version": importlib.metadata.version("eventsourcing")}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        kind = request.pop("do")
        if kind == "append":
            answer = append_for(**request)
        elif kind == "correct":
            answer = correct_for(**request)
        else:
            raise ValueError(f"unknown request {line}")
        print(json.dumps(answer), flush=True)
    datastore.close()


main()
