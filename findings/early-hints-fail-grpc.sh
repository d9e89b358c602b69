#!/usr/bin/env bash
# 103 Early Hints before a gRPC answer: grpcio ends the call with UNKNOWN, grpc-js waits for the answer.
#
# Version    grpcio 1.85.3, @grpc/grpc-js 1.14.7, hyperframe 6.1.0, hpack 4.2.0. RFC 9110, 15.2: a client must be able to read 1xx answers before the
#            final one, even if it does not expect them; RFC 9113, 8.1: they are HEADERS without END_STREAM.
# Behaviour  For grpcio the first HEADERS are the answer: the status is not 200, and the call is UNKNOWN, "Received http2 header with status: 103".
#            102 is the same, and so is 100, which it never asks for. grpc-js passes them over.
# Guess      gRPC maps HTTP statuses for the sake of proxies, and 1xx would be no status of an answer.
# Matters    A gateway or middleware that sends 103 (or 102 for slow handlers) by itself, for all routes, fails gRPC clients on the C core with a
#            status that no retry policy has in its list. Only for browsers, then.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.85.3 hyperframe==6.1.0 hpack==4.2.0
npm install --silent --no-fund --no-audit @grpc/grpc-js@1.14.7 >/dev/null

cat >raw.py <<'END'
import socket, struct, threading
from hpack import Decoder, Encoder
from hyperframe.frame import *

TOLD = [(":status", "200"), ("content-type", "application/grpc")]
DONE = [("grpc-status", "0")]


def message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


def answers(connection, answer):
    """Serves one connection: settings and pings are answered, and the first stream with what `answer` makes."""
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
            frames = answer(Encoder(), frame.stream_id)
            connection.sendall(b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in frames))


def serve(answer):
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection):
        try:
            answers(connection, answer)
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=one, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]
END
cat >of_js.js <<'END'
const grpc = require("@grpc/grpc-js");
const same = (bytes) => bytes;
const client = new grpc.Client("127.0.0.1:" + process.argv[2], grpc.credentials.createInsecure());
const call = client.makeUnaryRequest("/a.B/C", same, same, Buffer.from(""), { deadline: Date.now() + 5000 }, (error, answer) => {
  console.log(error ? grpc.status[error.code] : "b'" + answer + "'");
  client.close();
});
END
cat >asked.py <<'END'
import subprocess
import grpc
from raw import *


def of_grpcio(port):
    try:
        return repr(grpc.insecure_channel("127.0.0.1:%d" % port).unary_unary("/a.B/C")(b"", timeout=5))
    except grpc.RpcError as error:
        return error.code().name


def answer(interim):
    return lambda encoder, stream: [
        *[HeadersFrame(stream, encoder.encode([(":status", one)]), flags=["END_HEADERS"]) for one in interim],
        HeadersFrame(stream, encoder.encode(TOLD), flags=["END_HEADERS"]),
        DataFrame(stream, message(b"hello")),
        HeadersFrame(stream, encoder.encode(DONE), flags=["END_HEADERS", "END_STREAM"]),
    ]


for interim in [], ["100"], ["102"], ["103"], ["103", "103"]:
    port = serve(answer(interim))
    js = subprocess.run(["node", "of_js.js", str(port)], capture_output=True, text=True).stdout.strip()
    print("%-8s grpcio: %-9s grpc-js: %s" % (" ".join(interim) or "none", of_grpcio(port), js))
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
none     grpcio: b'hello'  grpc-js: b'hello'
100      grpcio: UNKNOWN   grpc-js: b'hello'
102      grpcio: UNKNOWN   grpc-js: b'hello'
103      grpcio: UNKNOWN   grpc-js: b'hello'
103 103  grpcio: UNKNOWN   grpc-js: b'hello'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
