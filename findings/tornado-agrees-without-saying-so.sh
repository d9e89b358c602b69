#!/usr/bin/env bash
# tornado takes an offer of "no context takeover" and leaves that out of its answer, so that the client ends the connection.
#
# Version    tornado 6.6.1 with get_compression_options, websockets 17.4 as the client. RFC 7692, 7.1.1.1: a server accepts the
#            parameter by including it in its answer.
# Behaviour  The answer to "permessage-deflate; server_no_context_takeover" is "permessage-deflate". A client that asks for it because it has
#            no memory for a window refuses the WebSocket. The same client is content with a server that answers as it was asked.
# Guess      Parameters that a server does as it was asked come back, as its window bits do.
# Matters    Of 10,000 connections each keeps a window of 32 KiB in the client unless this parameter holds; before tornado it cannot be had.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check websockets==17.4 tornado==6.6.1

cat >asked.py <<'END'
import asyncio

import tornado.web, tornado.websocket
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


class Echo(tornado.websocket.WebSocketHandler):
    def get_compression_options(self):
        return {}

    def on_message(self, message):
        self.write_message(message)


async def ask(name, port, **parameters):
    offer = ClientPerMessageDeflateFactory(**parameters)
    try:
        async with connect("ws://127.0.0.1:%d/" % port, compression=None, extensions=[offer]) as socket:
            await socket.send("hello")
            field = socket.response.headers.get("Sec-WebSocket-Extensions")
            print("%-11s %-34s answers %s" % (name, parameters, field))
            assert await socket.recv() == "hello"
    except NegotiationError as error:
        print("%-11s %-34s refused by the client: %s" % (name, parameters, error))


async def main():
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(tornado.web.Application([("/", Echo)])).add_sockets(sockets)

    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0) as other:
        for name, port in ("tornado", sockets[0].getsockname()[1]), ("websockets", other.sockets[0].getsockname()[1]):
            await ask(name, port)
            await ask(name, port, server_max_window_bits=10)
            await ask(name, port, server_no_context_takeover=True)


asyncio.run(main())
END

seen=$(venv/bin/python asked.py)

expected=$(cat <<'END'
tornado     {}                                 answers permessage-deflate
tornado     {'server_max_window_bits': 10}     answers permessage-deflate; server_max_window_bits=10
tornado     {'server_no_context_takeover': True} refused by the client: Unsupported extension: name = permessage-deflate, params = []
websockets  {}                                 answers permessage-deflate; server_max_window_bits=12; client_max_window_bits=12
websockets  {'server_max_window_bits': 10}     answers permessage-deflate; server_max_window_bits=10; client_max_window_bits=12
websockets  {'server_no_context_takeover': True} answers permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=12
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
