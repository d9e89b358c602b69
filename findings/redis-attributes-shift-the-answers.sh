#!/usr/bin/env bash
# An attribute before an answer is taken for the answer, and each later answer goes to the call after it: redis-py with hiredis.
#
# Version    redis-py 8.1.0 with hiredis 3.5.0 and without, ioredis 6.0.0, redis-server 7.0.15 (Debian 12). RESP3's specification: a client may skip
#            attributes, which come before any answer, and must then go on with the answer itself.
# Behaviour  The server's own "DEBUG PROTOCOL ATTRIB" sends one. redis-py with hiredis returns the attribute; its next calls get the answers of those
#            before. Without hiredis it raises InvalidResponse, and ioredis an Error; both then have a new connection and are right.
# Guess      The type is six years old and meant to be added without a change of clients: all of them skip it.
# Matters    No command of today's Redis sends attributes unasked, but RESP3 lets modules, proxies and successors do so. A client that is one answer
#            behind returns other keys' values without an error. Who builds on RESP3 should test that, or stay with RESP2.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for tool in redis-server node; do
    which $tool >/dev/null || missing=1
done
[ -z "${missing-}" ] || apt-get install --quiet=2 --yes --no-install-recommends redis-server >/dev/null 2>&1

free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_open() { until (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.05; done; }

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check redis==8.1.0
npm install --silent --no-fund --no-audit ioredis@6.0.0 >/dev/null
python3 -m venv with-hiredis
with-hiredis/bin/pip install --quiet --disable-pip-version-check redis==8.1.0 hiredis==3.5.0

port=$(free)
redis-server --port "$port" --bind 127.0.0.1 --save '' --enable-debug-command yes >/dev/null &
trap 'kill %1; rm -rf "$work"' EXIT
until_open "$port"

cat >asked.py <<'END'
import sys
import redis

client = redis.Redis(port=int(sys.argv[1]), protocol=3, single_connection_client=True, socket_timeout=5, retry=None)
client.mset({"a": "of a", "b": "of b", "c": "of c"})
for call in ["DEBUG", "PROTOCOL", "ATTRIB"], ["GET", "a"], ["GET", "b"], ["GET", "c"]:
    try:
        told = repr(client.execute_command(*call))
    except redis.RedisError as error:
        told = type(error).__name__
    print("  %s: %s" % (" ".join(call), told))
END
cat >asked.js <<'END'
const Redis = require("ioredis");
const client = new Redis({ host: "127.0.0.1", port: process.argv[2], protocol: 3 });
client.on("error", () => {});
(async () => {
  for (const call of [["DEBUG", "PROTOCOL", "ATTRIB"], ["GET", "a"], ["GET", "b"], ["GET", "c"]]) {
    const told = await client.call(...call).catch((error) => error.constructor.name);
    console.log("  %s: %s", call.join(" "), told);
  }
  client.disconnect();
})();
END
seen=$(
    echo "redis-py with hiredis"
    with-hiredis/bin/python asked.py "$port"
    echo "redis-py without"
    venv/bin/python asked.py "$port"
    echo "ioredis"
    node asked.js "$port"
)

expected=$(cat <<'END'
redis-py with hiredis
  DEBUG PROTOCOL ATTRIB: [b'key-popularity', [b'key:123', 90]]
  GET a: b'Some real reply following the attribute'
  GET b: b'of a'
  GET c: b'of b'
redis-py without
  DEBUG PROTOCOL ATTRIB: InvalidResponse
  GET a: b'of a'
  GET b: b'of b'
  GET c: b'of c'
ioredis
  DEBUG PROTOCOL ATTRIB: Error
  GET a: of a
  GET b: of b
  GET c: of c
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
