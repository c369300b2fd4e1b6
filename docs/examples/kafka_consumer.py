"""Reads a topic of facts to its end and puts the lanes together into the one order of the log.

    python kafka_consumer.py 127.0.0.1:9092 cinelog.facts
"""

import heapq
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

brokers, topic = sys.argv[1:]
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": "cinelog-example",
        # The relay writes in transactions: what was aborted must not be seen. Java clients default to the other.
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
    }
)
partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])

# A partition is a lane and in order; across lanes the position tells. It is dense, so a fact's turn has come when it
# is the one after the last. Another log's facts have positions of their own: a topic that has them is not read on.
waiting, last, facts, at_end, logs = [], 0, 0, set(), set()
while len(at_end) < len(partitions):
    message = consumer.poll(timeout=30)
    if message is None:
        sys.exit("the brokers say nothing")
    if message.error():
        if message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())
        at_end.add(message.partition())
        continue
    headers = dict(message.headers())
    logs.add(headers["ce_logid"])
    if len(logs) > 1:
        sys.exit("the topic has facts of two logs")
    heapq.heappush(waiting, (int(headers["ce_position"]), headers["ce_type"].decode(), message.value()))
    while waiting and waiting[0][0] <= last + 1:
        if waiting[0][0] <= last:
            sys.exit(f"position {waiting[0][0]} is there twice")
        last, fact_type, payload = heapq.heappop(waiting)
        facts += 1
consumer.close()

if waiting:
    sys.exit(f"position {last + 1} is missing")
print(f"{facts} facts, positions 1 to {last}, none missing")
