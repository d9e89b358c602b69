#!/usr/bin/env bash
# undici's request fails on a 304 that names the length of what was not sent.
#
# Version    undici 7.30.2 (lib/dispatcher/client-h1.js). RFC 9110 8.6: a server may send Content-Length in a 304, and
#            then it must be that of the 200 which it stands for.
# Behaviour  A conditional GET is answered with 304 and Content-Length: 5, and rightly no body. request rejects with
#            UND_ERR_RES_CONTENT_LENGTH_MISMATCH. A HEAD with the same length works, and so does undici's own fetch.
# Guess      304 and HEAD are treated alike, as having no body whatever the fields say.
# Matters    Whoever adds the length to 304 for the sake of caches, which the RFC invites, turns revalidation into
#            errors in Node clients. Leave it out.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

npm install --silent --no-audit --no-fund --prefix "$work" undici@7.30.2
cat >"$work/probe.mjs" <<'END'
import net from 'node:net';
import { fetch, request } from 'undici';

const server = net.createServer(socket => {
    socket.on('error', () => {});
    socket.on('data', data => {
        const status = data.toString().startsWith('HEAD') ? '200 OK' : '304 Not Modified';
        socket.write(`HTTP/1.1 ${status}\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n`);
    });
});
await new Promise(done => server.listen(0, '127.0.0.1', done));
const url = `http://127.0.0.1:${server.address().port}/`;
const headers = { 'If-None-Match': '"a"' };
const outcome = method => request(url, { method, headers })
    .then(async r => `${r.statusCode} "${await r.body.text()}"`).catch(error => error.code);
console.log('request HEAD:', await outcome('HEAD'));
console.log('request GET:', await outcome('GET'));
console.log('fetch GET:', await fetch(url, { headers }).then(async r => `${r.status} "${await r.text()}"`, e => e.cause.code));
process.exit(0);
END
seen=$(node "$work/probe.mjs")

expected=$(cat <<'END'
request HEAD: 200 ""
request GET: UND_ERR_RES_CONTENT_LENGTH_MISMATCH
fetch GET: 304 ""
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
