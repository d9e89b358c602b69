#!/usr/bin/env bash
# A client that sends two messages and a Close is not answered the messages.
#
# Version    websockets 17.4; uvicorn 0.54.0 with it and with wsproto 1.3.2; Hypercorn 0.18.0; sanic 25.12.1. Beside them aiohttp
#            3.14.5, tornado 6.6.1, ws 8.23.0. RFC 6455, 5.5.1: the answer to a Close may be put off, and nothing may be sent behind it.
# Behaviour  An echo server gets "a", "b" and Close in one packet. The first five send their Close at once, and the echoes are lost; the
#            handler's sends fail. aiohttp, tornado and ws send both echoes, then the Close.
# Guess      Frames are handled in order: what was asked before the Close is answered before it.
# Matters    A client that asks, closes and reads to the end gets answers from some servers and none from others. A request over a
#            WebSocket is only done when its answer has come; wait for that before the Close.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check websockets==17.4 uvicorn==0.54.0 wsproto==1.3.2 hypercorn==0.18.0 sanic==25.12.1 aiohttp==3.14.5 tornado==6.6.1
npm install --silent --no-audit --no-fund --prefix "$work" ws@8.23.0

cat >served.py <<'END'
import asyncio, sys


async def echo(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": event + ".complete"})
            if event.endswith("shutdown"):
                return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


name, port = sys.argv[1], int(sys.argv[2])
if name == "websockets":
    from websockets.asyncio.server import serve

    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async def main():
        async with serve(echo, "127.0.0.1", port):
            await asyncio.Event().wait()

    asyncio.run(main())
elif name == "uvicorn-websockets":
    import uvicorn
    uvicorn.run(echo, port=port, log_level="error", ws="websockets")
elif name == "uvicorn-wsproto":
    import uvicorn
    uvicorn.run(echo, port=port, log_level="error", ws="wsproto")
elif name == "hypercorn":
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = ["127.0.0.1:%d" % port]
    asyncio.run(serve(echo, config))
elif name == "sanic":
    from sanic import Sanic

    app = Sanic("app")

    @app.websocket("/")
    async def echo(request, socket):
        async for message in socket:
            await socket.send(message)

    app.run("127.0.0.1", port, single_process=True)
elif name == "aiohttp":
    from aiohttp import web

    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/", echo)
    web.run_app(app, host="127.0.0.1", port=port, print=None)
elif name == "tornado":
    import tornado.web, tornado.websocket

    class Echo(tornado.websocket.WebSocketHandler):
        def on_message(self, message):
            self.write_message(message)

    async def main():
        tornado.web.Application([("/", Echo)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())
END

cat >served.cjs <<'END'
const { WebSocketServer } = require('ws');
new WebSocketServer({ host: '127.0.0.1', port: +process.argv[2] }).on('connection', (socket) => {
    socket.on('message', (message) => socket.send(message.toString()));
});
END

seen=$(venv/bin/python - <<'END'
import os, signal, socket, struct, subprocess, time

SERVERS = {
    "websockets": "exec venv/bin/python served.py websockets {port}",
    "uvicorn-websockets": "exec venv/bin/python served.py uvicorn-websockets {port}",
    "uvicorn-wsproto": "exec venv/bin/python served.py uvicorn-wsproto {port}",
    "hypercorn": "exec venv/bin/python served.py hypercorn {port}",
    "sanic": "exec venv/bin/python served.py sanic {port}",
    "aiohttp": "exec venv/bin/python served.py aiohttp {port}",
    "tornado": "exec venv/bin/python served.py tornado {port}",
    "ws": "exec node served.cjs {port}",
}
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(opcode, payload=b""):
    mask = b"\1\2\3\4"
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def close(code):
    return frame(8, struct.pack(">H", code))


def said(port, sent):
    """What the server sends once its WebSocket is open, up to the end of the connection."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(UPGRADE)
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    rest = head.partition(b"\r\n\r\n")[2]
    client.sendall(sent)
    while received := client.recv(4096):
        rest += received
    return rest


def frames(received):
    told = []
    while received:
        opcode, length = received[0] & 15, received[1]
        payload, received = received[2 : 2 + length], received[2 + length :]
        told.append("close %d" % struct.unpack(">H", payload) if opcode == 8 else "text " + payload.decode())
    return ", ".join(told) or "nothing"


for name, command in SERVERS.items():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    process = subprocess.Popen(command.format(port=port), shell=True, **quiet)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    print("%-19s" % name, frames(said(port, frame(1, b"a") + frame(1, b"b") + close(1000))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
websockets          close 1000
uvicorn-websockets  close 1000
uvicorn-wsproto     close 1000
hypercorn           close 1000
sanic               close 1000
aiohttp             text a, text b, close 1000
tornado             text a, text b, close 1000
ws                  text a, text b, close 1000
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
