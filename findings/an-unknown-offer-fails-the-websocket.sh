#!/usr/bin/env bash
# A WebSocket whose client offers compression in a second way as well gets 400 or 500 in place of the second way.
#
# Version    ws 8.23.0, tornado 6.6.1, beside websockets 17.4 and aiohttp 3.14.5. RFC 7692, 5.1 and 7: an offer that cannot be accepted
#            is declined, and the next one is looked at; without any, there is a WebSocket without compression.
# Behaviour  Offers that begin with a parameter the server does not know, and fall back to plain permessage-deflate: 400 from ws, 500 from
#            tornado. tornado also answers 500 to a window of 8 bits, which zlib cannot make. websockets and aiohttp take the second.
# Guess      Offers stand in order of preference so that a server picks what it can: at worst no compression.
# Matters    No client can try a new parameter, or a small window, with a fallback: before these servers the connection is lost, and
#            not the compression. Offer what was there from the first day.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check websockets==17.4 aiohttp==3.14.5 tornado==6.6.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund ws@8.23.0

cat >of_ws.js <<'END'
const { WebSocketServer } = require("ws");
new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: true });
END
cat >of_websockets.py <<'END'
import asyncio, sys
from websockets.asyncio.server import serve


async def main():
    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", int(sys.argv[1])):
        await asyncio.Event().wait()


asyncio.run(main())
END
cat >of_aiohttp.py <<'END'
import sys
from aiohttp import web


async def accept(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        pass
    return socket


app = web.Application()
app.router.add_get("/", accept)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
END
cat >of_tornado.py <<'END'
import asyncio, sys
import tornado.web, tornado.websocket


class Accept(tornado.websocket.WebSocketHandler):
    def get_compression_options(self):
        return {}


async def main():
    tornado.web.Application([("/", Accept)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
END

cat >offers.py <<'END'
import base64, socket, subprocess, sys, time

OFFERS = [
    "permessage-deflate",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; later_parameter=1, permessage-deflate",
    "permessage-deflate; server_max_window_bits=8, permessage-deflate",
    "x-other, permessage-deflate",
]
print(("%-66s %s" % ("offer", "  ".join("%-11s" % name.split("=")[0] for name in sys.argv[1:]))).rstrip())
told = []
for command in sys.argv[1:]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = subprocess.Popen(command.split("=")[1].split() + [str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    column = []
    for offer in OFFERS:
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(("GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: " + base64.b64encode(b"0123456789abcdef").decode() + "\r\n"
                "Sec-WebSocket-Extensions: " + offer + "\r\n\r\n").encode())
            head = b""
            while b"\r\n\r\n" not in head and (some := client.recv(4096)):
                head += some
            status = head.split()[1].decode()
            column.append(status + (" deflate" if b"permessage-deflate" in head.lower() else ""))
    told.append(column)
    server.kill()
    server.wait()
for row, offer in enumerate(OFFERS):
    print(("%-66s %s" % (offer, "  ".join("%-11s" % column[row] for column in told))).rstrip())
END

seen=$(venv/bin/python offers.py "ws=node of_ws.js" "tornado=venv/bin/python of_tornado.py" \
    "websockets=venv/bin/python of_websockets.py" "aiohttp=venv/bin/python of_aiohttp.py")

expected=$(cat <<'END'
offer                                                              ws           tornado      websockets   aiohttp
permessage-deflate                                                 101 deflate  101 deflate  101 deflate  101 deflate
permessage-deflate; server_max_window_bits=9                       101 deflate  101 deflate  101 deflate  101 deflate
permessage-deflate; later_parameter=1, permessage-deflate          400          500          101 deflate  101 deflate
permessage-deflate; server_max_window_bits=8, permessage-deflate   101 deflate  500          101 deflate  101 deflate
x-other, permessage-deflate                                        101 deflate  101 deflate  101 deflate  101 deflate
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
