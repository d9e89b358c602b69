#!/usr/bin/env bash
# Of a header that a NATS message has twice, nats-py hands over the last value; the JavaScript client has both.
#
# Version    nats-py 2.16.0, @nats-io/transport-node 3.4.0, nats-server 2.9.10 (Debian 12). NATS' design of headers (ADR-4): a key may have several values,
#            in their order, and names keep their case.
# Behaviour  A message with "Via: a" and "Via: b" arrives in Python as {"Via": "b"}. In the other direction nats-py has no way to send two: a list as a
#            value is an error. JavaScript's values("Via") are a and b.
# Guess      The headers are HTTP's in form and rules, and every HTTP library of Python keeps both.
# Matters    What hops add one by one (ways, trace states, signatures) arrives as the last hop's only, without a sign that there was more. Join such
#            values with a comma into one header before they are sent.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for tool in nats-server node; do
    which $tool >/dev/null || missing=1
done
[ -z "${missing-}" ] || apt-get install --quiet=2 --yes --no-install-recommends nats-server >/dev/null 2>&1

free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_open() { until (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.05; done; }

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-py==2.16.0
npm install --silent --no-fund --no-audit @nats-io/transport-node@3.4.0 >/dev/null
port=$(free)
nats-server --addr 127.0.0.1 --port "$port" 2>/dev/null &
trap 'kill %1; rm -rf "$work"' EXIT
until_open "$port"

cat >both.js <<'END'
const { connect, headers } = require("@nats-io/transport-node");
(async () => {
  const client = await connect({ servers: "127.0.0.1:" + process.argv[2] });
  const own = client.subscribe("topic", { max: 1 });
  await client.flush();
  const fields = headers();
  fields.append("Via", "a");
  fields.append("Via", "b");
  fields.append("Kind", "one");
  client.publish("topic", "hello", { headers: fields });
  for await (const message of own) console.log("JavaScript: Via %s, Kind %s", message.headers.values("Via"), message.headers.values("Kind"));
  await client.drain();
})();
END
cat >asked.py <<'END'
import asyncio, subprocess, sys
import nats


async def main(port):
    client = await nats.connect("nats://127.0.0.1:" + port)
    messages = await client.subscribe("topic")
    await client.flush()
    print(subprocess.run(["node", "both.js", port], capture_output=True, text=True).stdout.strip())
    message = await messages.next_msg(5)
    print("Python: Via %s, Kind %s" % (message.headers["Via"], message.headers["Kind"]))
    try:
        await client.publish("topic", b"hello", headers={"Via": ["a", "b"]})
        print("Python sends: %s" % (await messages.next_msg(5)).headers)
    except Exception as error:
        print("Python sends: %s" % type(error).__name__)
    await client.close()


asyncio.run(main(sys.argv[1]))
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
JavaScript: Via [ 'a', 'b' ], Kind [ 'one' ]
Python: Via b, Kind one
Python sends: AttributeError
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
