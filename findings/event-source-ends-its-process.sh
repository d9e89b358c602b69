#!/usr/bin/env bash
# undici's EventSource, which is also Node's own, does not keep its process while it waits to connect again; npm's does.
#
# Version    undici 7.30.2 (lib/web/eventsource/eventsource.js: the timer of reconnecting is made by setTimeout(...).unref()),
#            eventsource 4.1.1. The HTML Standard, 9.2.3, has clients reconnect after each end of a stream.
# Behaviour  The server sends one event and ends the stream. A program that does nothing else gets that event, and with undici
#            exits with 0 before the second connection. With eventsource it connects again and again.
# Guess      A client whose stream is to last for ever is something to stay for, in both alike: while the stream is open, both do.
# Matters    A worker that only listens for events ends without an error at the first restart or drain of the server, and
#            looks as if it had been done. Keep such programs alive by something else, and see onerror as no end.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

npm install --silent --no-audit --no-fund --prefix "$work" undici@7.30.2 eventsource@4.1.1
cat >"$work/server.mjs" <<'END'
import http from 'node:http';

let count = 0;
const server = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    count += 1;
    response.end(`retry: 100\ndata: ${count}\n\n`);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
cat >"$work/client.mjs" <<'END'
const [name, port] = process.argv.slice(2);
const { EventSource } = await import(name);
const source = new EventSource(`http://127.0.0.1:${port}/`);
const seen = [];
source.onmessage = ({ data }) => {
    if (seen.push(data) === 3) source.close();
};
process.on('exit', () => console.log(`${name}: events ${seen.join(' ')}, ${source.readyState === 2 ? 'closed' : 'not closed'}`));
END
seen=$(
    for name in undici eventsource; do
        node "$work/server.mjs" >"$work/port" &
        server=$!
        until [ -s "$work/port" ]; do sleep 0.05; done
        status=0
        node "$work/client.mjs" "$name" "$(cat "$work/port")" || status=$?
        echo "$name: exit $status"
        kill "$server"
        : >"$work/port"
    done
)

expected=$(cat <<'END'
undici: events 1, not closed
undici: exit 0
eventsource: events 1 2 3, closed
eventsource: exit 0
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
