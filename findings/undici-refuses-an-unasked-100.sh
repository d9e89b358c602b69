#!/usr/bin/env bash
# undici, the client below Node's fetch, fails on 100 Continue if it did not ask, and takes every other 1xx.
#
# Version    undici 7.30.2 (lib/dispatcher/client-h1.js). RFC 9110 15.2 and 15.2.1: a client must be able to parse 1xx
#            even if it does not expect one, and simply discards a 100 that it did not ask for.
# Behaviour  The server sends 100, then 200. request rejects with UND_ERR_SOCKET "bad response" and closes the
#            connection; fetch rejects as well. With 102, 103 or an unknown 199 in place of 100 both give the 200.
# Guess      If any interim response is safe to send to everybody, it is the oldest one.
# Matters    Servers and gateways that always send 100 when they begin to read a body work with curl and browsers, and
#            fail with Node services. Send it only in answer to Expect: 100-continue.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

npm install --silent --no-audit --no-fund --prefix "$work" undici@7.30.2
cat >"$work/probe.mjs" <<'END'
import net from 'node:net';
import { fetch, request } from 'undici';

for (const interim of ['100 Continue', '102 Processing', '103 Early Hints', '199 Unknown']) {
    const server = net.createServer(socket => {
        socket.on('error', () => {});
        socket.once('data', () => socket.end(`HTTP/1.1 ${interim}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`));
    });
    await new Promise(done => server.listen(0, '127.0.0.1', done));
    const url = `http://127.0.0.1:${server.address().port}/`;
    const asked = await request(url).then(async r => `${r.statusCode} ${await r.body.text()}`, e => `${e.code} ${e.message}`);
    const fetched = await fetch(url).then(async r => `${r.status} ${await r.text()}`, e => `${e.cause.message}`);
    console.log(`${interim}: request: ${asked}; fetch: ${fetched}`);
    server.close();
}
process.exit(0);
END
seen=$(node "$work/probe.mjs")

expected=$(cat <<'END'
100 Continue: request: UND_ERR_SOCKET bad response; fetch: bad response
102 Processing: request: 200 ok; fetch: 200 ok
103 Early Hints: request: 200 ok; fetch: 200 ok
199 Unknown: request: 200 ok; fetch: 200 ok
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
