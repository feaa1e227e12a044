"""Produce every line with librdkafka, then consume the topic as a group and write what came."""
import os
import sys
import time

from confluent_kafka import Consumer, Producer

TOPIC = "flights_librdkafka"
source, target = sys.argv[1:3]
broker = os.environ["BROKER"]

failed = []
producer = Producer({
    "bootstrap.servers": broker, "enable.idempotence": True, "compression.type": "zstd",
    "linger.ms": 20, "queue.buffering.max.messages": 500_000,
})
count = 0
for line in open(source, "rb"):
    key, value = line.rstrip(b"\n").split(b"\t", 1)
    producer.produce(TOPIC, value, key, on_delivery=lambda err, _: failed.append(err) if err else None)
    count += 1
    if count % 10_000 == 0:
        producer.poll(0)
left = producer.flush(120)
assert left == 0 and not failed, (left, failed[:3])

consumer = Consumer({"bootstrap.servers": broker, "group.id": "e2e", "auto.offset.reset": "earliest"})
consumer.subscribe([TOPIC])
got, deadline = 0, time.monotonic() + 120
with open(target, "wb") as out:
    while got < count:
        assert time.monotonic() < deadline, f"{got} of {count} after 120 s"
        for m in consumer.consume(10_000, 1.0):
            assert m.error() is None, m.error()
            out.write(m.key() + b"\t" + m.value() + b"\n")
            got += 1
consumer.commit(asynchronous=False)
positions = consumer.committed(consumer.assignment())
consumer.close()
assert sum(p.offset for p in positions) == count, positions
print(f"{count} produced, consumed and committed")
