#!/usr/bin/env bash
# A padded DATA or HEADERS frame fails the call in grpcio, on both sides.
#
# Version    grpcio 1.85.3, @grpc/grpc-js 1.14.7, hyperframe 6.1.0, hpack 4.2.0. RFC 9113, 6.1 and 6.2: either frame may have padding; 4.1: flags
#            that have no meaning for a frame are ignored.
# Behaviour  grpcio answers a request with padded DATA by RST_STREAM with PROTOCOL_ERROR, and one with padded HEADERS by grpc-status 13; padded
#            answers are INTERNAL for its client. So is a flag of DATA that nobody has defined. grpc-js takes all of them.
# Guess      Padding is of HTTP/2's first day and most libraries skip it; that one of the largest deployments refuses it is not to be expected.
# Matters    A proxy or server that pads (against traffic analysis, or nghttp's --padding) works with browsers, curl and Go, and breaks each gRPC
#            call of the clients that are built on gRPC's C core: Python, C++, Ruby, PHP, C#. Do not pad what may be gRPC.

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
import socket, subprocess
from concurrent import futures
import grpc
from raw import *

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "a"), ("te", "trailers"),
           ("content-type", "application/grpc")]


def frames(what, head, stream, ends):
    """HEADERS and DATA, one of which is padded."""
    first = HeadersFrame(stream, head, flags=["END_HEADERS"])
    second = DataFrame(stream, message(b"hello"), flags=["END_STREAM"] if ends else [])
    for padded in {"padded HEADERS": [first], "padded DATA": [second]}.get(what, []):
        padded.flags.add("PADDED")
        padded.pad_length = 8
    second = bytearray(second.serialize())
    if what == "an undefined flag":
        second[4] |= 0x20
    return [first, bytes(second)]


def of_server(port, what):
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        asked = frames(what, Encoder().encode(REQUEST), 1, True)
        client.sendall(b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in asked))
        stream, decoder = client.makefile("rb"), Decoder()
        while True:
            frame, length = Frame.parse_frame_header(memoryview(stream.read(9)))
            frame.parse_body(memoryview(stream.read(length)))
            if isinstance(frame, RstStreamFrame):
                return "RST_STREAM %d" % frame.error_code
            if isinstance(frame, HeadersFrame):
                fields = dict(decoder.decode(frame.data))
                if "grpc-status" in fields:
                    return "grpc-status " + fields["grpc-status"]


def of_grpcio(port):
    try:
        return repr(grpc.insecure_channel("127.0.0.1:%d" % port).unary_unary("/a.B/C")(b"", timeout=5))
    except grpc.RpcError as error:
        return error.code().name


def answer(what):
    return lambda encoder, stream: [
        *frames(what, encoder.encode(TOLD), stream, False),
        HeadersFrame(stream, encoder.encode(DONE), flags=["END_HEADERS", "END_STREAM"]),
    ]


server = grpc.server(futures.ThreadPoolExecutor(2))
method = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.B", {"C": method})])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
for what in "no padding", "padded DATA", "padded HEADERS", "an undefined flag":
    padding = serve(answer(what))
    js = subprocess.run(["node", "of_js.js", str(padding)], capture_output=True, text=True).stdout.strip()
    print("%-18s grpcio's server: %-14s its client: %-9s grpc-js: %s" % (what, of_server(port, what), of_grpcio(padding), js))
server.stop(None)
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
no padding         grpcio's server: grpc-status 0  its client: b'hello'  grpc-js: b'hello'
padded DATA        grpcio's server: RST_STREAM 1   its client: INTERNAL  grpc-js: b'hello'
padded HEADERS     grpcio's server: grpc-status 13 its client: INTERNAL  grpc-js: b'hello'
an undefined flag  grpcio's server: RST_STREAM 1   its client: INTERNAL  grpc-js: b'hello'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
