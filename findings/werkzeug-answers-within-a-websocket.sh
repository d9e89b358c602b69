#!/usr/bin/env bash
# Over an open WebSocket comes an HTTP answer, beside the Close.
#
# Version    simple-websocket 1.1.0 (used by Flask-Sock) on the server of Werkzeug 3.1.9, Flask 3.1.3.
# Behaviour  A client sends a Close. Over the WebSocket it gets the frame of a Close, and before or behind it "HTTP/1.1 200 OK" with
#            fields and an empty line: two threads write, and either may be first.
# Guess      Once the connection has been taken over, the server's own answer is thrown away.
# Matters    "H" and "T" are read as the head of a frame: strict clients report a protocol error for a connection that ended well, and
#            tests against this server pass or fail by how strict their client is.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check simple-websocket==1.1.0 werkzeug==3.1.9 flask==3.1.3

cat >served.py <<'END'
import asyncio, sys

name, port = sys.argv[1], int(sys.argv[2])
if name == "simple":
    import flask
    from simple_websocket import ConnectionClosed, Server

    app = flask.Flask("app")

    @app.route("/", websocket=True)
    def echo():
        socket = Server.accept(flask.request.environ)
        try:
            while True:
                socket.send(socket.receive())
        except ConnectionClosed:
            return ""

    app.run("127.0.0.1", port, threaded=True)
END

seen=$(venv/bin/python - <<'END'
import os, signal, socket, struct, subprocess, time

SERVERS = {
    "simple": "exec venv/bin/python served.py simple {port}",
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
    received = said(port, close(1000))
    print("its Close:", b"\x88\x02\x03\xe8" in received)
    print("an answer of HTTP:", b"HTTP/1.1 200 OK\r\n" in received)
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
its Close: True
an answer of HTTP: True
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
