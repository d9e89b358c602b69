#!/usr/bin/env bash
# A Redis that does not know HELLO repeats in its error what came with it: the user's name and the password, which clients hand on to logs.
#
# Version    redis-py 8.1.0, ioredis 6.0.0, redis-server 7.0.15 (Debian 12) with "rename-command HELLO", as hosted ones have it; Redis before
#            version 6 knows no HELLO at all. HELLO may carry AUTH, so that a connection begins with one round trip.
# Behaviour  "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'user' 'password'": some 128 bytes of them. redis-py says all in one
#            HELLO and raises that text; ioredis says AUTH by itself, and goes on without HELLO.
# Guess      An error tells which command is not known. Nobody looks for secrets in the text of a server's error.
# Matters    Errors of connecting are what services log. Cut the text at ", with args" before it goes anywhere, or send AUTH by itself.

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

port=$(free)
cat >config <<END
port $port
bind 127.0.0.1
save ""
rename-command HELLO ""
user shop on >swordfish ~* +@all
END
redis-server config >/dev/null &
trap 'kill %1; rm -rf "$work"' EXIT
until_open "$port"

cat >asked.py <<'END'
import sys
import redis

client = redis.Redis(port=int(sys.argv[1]), protocol=3, username="shop", password="swordfish", socket_timeout=5, retry=None)
try:
    print(client.ping())
except redis.RedisError as error:
    print(error)
END
cat >asked.js <<'END'
const Redis = require("ioredis");
const client = new Redis({ port: process.argv[2], protocol: 3, username: "shop", password: "swordfish", maxRetriesPerRequest: 0, retryStrategy: null });
let told = "";
client.on("error", (error) => { told = told || error.message; });
client.ping().then((text) => { told = text; }, (error) => { told = told || error.message; }).finally(() => { console.log(told); client.disconnect(); });
END
seen=$(
    echo "the server: $(printf 'HELLO 3 AUTH shop swordfish\r\nQUIT\r\n' | (exec 3<>"/dev/tcp/127.0.0.1/$port"; cat >&3; head -1 <&3) | tr -d '\r')"
    echo "redis-py: $(venv/bin/python asked.py "$port")"
    echo "ioredis: $(node asked.js "$port")"
)
seen=$(sed 's/ *$//' <<<"$seen")

expected=$(cat <<'END'
the server: -ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'shop' 'swordfish'
redis-py: unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'shop' 'swordfish'
ioredis: PONG
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
