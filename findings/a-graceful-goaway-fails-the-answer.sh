#!/usr/bin/env bash
# A graceful GOAWAY fails the answers that it promises: httpx, and undici even those that have arrived.
#
# Version    httpx 0.28.1 with httpcore 1.0.9 and h2 4.4.1, undici 7.30.2; curl 7.88.1 and Node 20's http2 beside. RFC 9113, 6.8: streams up to the one that
#            GOAWAY names "might still complete successfully"; a server says GOAWAY with 2^31-1 first, so that none is lost.
# Behaviour  The server says GOAWAY with NO_ERROR and the number of the stream in flight, or 2^31-1, then sends the answer. httpx raises RemoteProtocolError,
#            undici "GOAWAY frame received with code 0". When the GOAWAY comes right behind the whole answer, httpx returns it and undici still fails.
# Guess      No new requests on this connection; those under way end as they would have.
# Matters    Each reload of nginx, each of its 1,000 requests a connection, each drain and each connection age costs these clients the answers in flight, POSTs
#            among them, whose effects have happened. The server cannot help it but by ending idle connections only. Let such clients talk HTTP/1.1.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for tool in curl node openssl; do which $tool >/dev/null; done
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'httpx[http2]==0.28.1' httpcore==1.0.9 h2==4.4.1 hpack==4.2.0 hyperframe==6.1.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund undici@7.30.2 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost >/dev/null 2>&1

cat >of_httpx.py <<'END'
import sys
import httpx

with httpx.Client(http1=False, http2=True, verify=False, timeout=20) as client:
    try:
        print(client.get(sys.argv[1]).text)
    except httpx.HTTPError as error:
        print(type(error).__name__)
END
cat >of_undici.js <<'END'
const { Agent, request } = require("undici");
const dispatcher = new Agent({ allowH2: true, connect: { rejectUnauthorized: false } });
request(process.argv[2], { dispatcher }).then((answer) => answer.body.text()).then(console.log)
  .catch((error) => console.log(error.message)).finally(() => process.exit());
END
cat >of_node.js <<'END'
const client = require("http2").connect(process.argv[2], { rejectUnauthorized: false });
client.on("error", (error) => console.log(error.message));
const call = client.request({ ":path": "/" });
let body = "";
call.on("data", (part) => (body += part));
call.on("error", (error) => console.log(error.message));
call.on("close", () => { console.log(body); client.close(); });
END
cat >asked.py <<'END'
import socket, ssl, subprocess, threading, time
from hpack import Encoder
from hyperframe.frame import *

MANNERS = {
    "no GOAWAY": ["answer"],
    "its number, then the answer": [1, "answer"],
    "2^31-1, then the answer": [2**31 - 1, "answer"],
    "the answer, then its number": ["answer", 1],
}


def serve(connection, manner):
    stream = connection.makefile("rb")
    if len(stream.read(24)) < 24:
        return
    connection.sendall(SettingsFrame(0).serialize())
    while head := stream.read(9):
        frame, length = Frame.parse_frame_header(memoryview(head))
        frame.parse_body(memoryview(stream.read(length)))
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            connection.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            connection.sendall(PingFrame(0, frame.opaque_data, flags=["ACK"]).serialize())
        if isinstance(frame, (HeadersFrame, DataFrame)) and "END_STREAM" in frame.flags:
            head = Encoder().encode([(":status", "200"), ("content-type", "text/plain")])
            answer = HeadersFrame(1, head, flags=["END_HEADERS"]).serialize() + DataFrame(1, b"hello", flags=["END_STREAM"]).serialize()
            steps = [answer if step == "answer" else GoAwayFrame(0, last_stream_id=step).serialize() for step in manner]
            if manner[0] == "answer":
                connection.sendall(b"".join(steps))
            else:
                connection.sendall(steps[0])
                time.sleep(0.5)
                connection.sendall(steps[1])


def listen(context, manner):
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection):
        try:
            serve(context.wrap_socket(connection, server_side=True), manner)
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=one, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return "https://127.0.0.1:%d/" % listener.getsockname()[1]


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
context.set_alpn_protocols(["h2"])
clients = {
    "httpx": ["venv/bin/python", "of_httpx.py"],
    "undici": ["node", "of_undici.js"],
    "node:http2": ["node", "of_node.js"],
    "curl": ["curl", "-sSk", "--http2", "--max-time", "20"],
}
for name, manner in MANNERS.items():
    print(name)
    for client, command in clients.items():
        told = subprocess.run(command + [listen(context, manner)], capture_output=True, text=True)
        print("  %s: %s" % (client, told.stdout.strip() or told.stderr.strip()))
END
seen=$(venv/bin/python asked.py)

expected=$(cat <<'END'
no GOAWAY
  httpx: hello
  undici: hello
  node:http2: hello
  curl: hello
its number, then the answer
  httpx: RemoteProtocolError
  undici: HTTP/2: "GOAWAY" frame received with code 0
  node:http2: hello
  curl: hello
2^31-1, then the answer
  httpx: RemoteProtocolError
  undici: HTTP/2: "GOAWAY" frame received with code 0
  node:http2: hello
  curl: hello
the answer, then its number
  httpx: hello
  undici: HTTP/2: "GOAWAY" frame received with code 0
  node:http2: hello
  curl: hello
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
