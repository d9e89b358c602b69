#!/usr/bin/env bash
# wsproto takes the close code 1014 for a fault, and the client gets no Close back.
#
# Version    wsproto 1.3.2, in uvicorn 0.54.0 and Hypercorn 0.18.0; beside them websockets 17.4. IANA registers 1012, 1013 and 1014 ("Bad
#            Gateway") behind the codes of RFC 6455.
# Behaviour  A Close with 1012 or 1013 is answered with the same code. One with 1014 ends the connection without a Close. aiohttp 3.14.5
#            answers every code with 1000.
# Guess      The three were registered alike and are known alike; and a code comes back as it was sent.
# Matters    Gateways close with 1014 when what is behind them fails. Their log then has 1006, "abnormal", for the other side too, and
#            alarms on 1006 count these. Who reads the code of the answer learns nothing from aiohttp.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check websockets==17.4 uvicorn==0.54.0 wsproto==1.3.2 hypercorn==0.18.0 aiohttp==3.14.5

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
if name == "uvicorn-wsproto":
    import uvicorn
    uvicorn.run(echo, port=port, log_level="error", ws="wsproto")
elif name == "hypercorn":
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = ["127.0.0.1:%d" % port]
    asyncio.run(serve(echo, config))
elif name == "websockets":
    from websockets.asyncio.server import serve

    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async def main():
        async with serve(echo, "127.0.0.1", port):
            await asyncio.Event().wait()

    asyncio.run(main())
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
END

seen=$(venv/bin/python - <<'END'
import os, signal, socket, struct, subprocess, time

SERVERS = {
    "uvicorn-wsproto": "exec venv/bin/python served.py uvicorn-wsproto {port}",
    "hypercorn": "exec venv/bin/python served.py hypercorn {port}",
    "websockets": "exec venv/bin/python served.py websockets {port}",
    "aiohttp": "exec venv/bin/python served.py aiohttp {port}",
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
    for code in (1001, 1012, 1013, 1014, 4000):
        print("%-16s close %d: %s" % (name, code, frames(said(port, close(code)))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
uvicorn-wsproto  close 1001: close 1001
uvicorn-wsproto  close 1012: close 1012
uvicorn-wsproto  close 1013: close 1013
uvicorn-wsproto  close 1014: nothing
uvicorn-wsproto  close 4000: close 4000
hypercorn        close 1001: close 1001
hypercorn        close 1012: close 1012
hypercorn        close 1013: close 1013
hypercorn        close 1014: nothing
hypercorn        close 4000: close 4000
websockets       close 1001: close 1001
websockets       close 1012: close 1012
websockets       close 1013: close 1013
websockets       close 1014: close 1014
websockets       close 4000: close 4000
aiohttp          close 1001: close 1000
aiohttp          close 1012: close 1000
aiohttp          close 1013: close 1000
aiohttp          close 1014: close 1000
aiohttp          close 4000: close 1000
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
