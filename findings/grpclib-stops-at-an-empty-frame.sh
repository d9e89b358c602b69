#!/usr/bin/env bash
# An empty DATA frame before a message is the end of all messages for grpclib; the call still succeeds.
#
# Version    grpclib 0.4.9 with h2 4.4.1, grpcio 1.85.3, @grpc/grpc-js 1.14.7, hyperframe 6.1.0, hpack 4.2.0. RFC 9113, 6.1: a DATA frame of length 0 is
#            valid and says nothing; gRPC over HTTP/2: how messages are spread over DATA frames means nothing.
# Behaviour  grpclib's client hands over None in place of the message and ends without an error. Between two messages of a stream an empty frame
#            loses the second; within a message it is an AssertionError. grpcio and grpc-js hand over all.
# Guess      The end of a stream is END_STREAM or the trailers, and an empty frame is skipped.
# Matters    Writers that flush without data send such frames, and so may proxies. A stream then looks complete and is not: who counts on grpclib
#            should have the number or a last message in the protocol, and who serves it should not send empty frames.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpclib==0.4.9 grpcio==1.85.3 h2==4.4.1 hyperframe==6.1.0 hpack==4.2.0
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
const call = client.makeServerStreamRequest("/a.B/C", same, same, Buffer.from(""), { deadline: Date.now() + 5000 });
const seen = [];
call.on("data", (one) => seen.push(String(one)));
call.on("status", (status) => {
  console.log("%s, status %d", seen.join(","), status.code);
  client.close();
});
END
cat >asked.py <<'END'
import asyncio, subprocess
import grpc
from grpclib.client import Channel, UnaryStreamMethod
from raw import *


class Bytes:
    __content_subtype__ = "proto"

    def encode(self, message, kind):
        return message

    def decode(self, data, kind):
        return data


async def of_grpclib(port):
    channel = Channel("127.0.0.1", port, codec=Bytes())
    seen, end = [], "no error"
    try:
        async with UnaryStreamMethod(channel, "/a.B/C", bytes, bytes).open(timeout=5) as stream:
            await stream.send_message(b"", end=True)
            async for one in stream:
                seen.append(one.decode())
            await stream.recv_trailing_metadata()
    except Exception as error:
        end = type(error).__name__
    channel.close()
    return ",".join([*seen, end])


def of_grpcio(port):
    call = grpc.insecure_channel("127.0.0.1:%d" % port).unary_stream("/a.B/C")(b"", timeout=5)
    return ",".join(one.decode() for one in call) + ", status %d" % call.code().value[0]


def answer(bodies):
    return lambda encoder, stream: [
        HeadersFrame(stream, encoder.encode(TOLD), flags=["END_HEADERS"]),
        *[DataFrame(stream, body) for body in bodies],
        HeadersFrame(stream, encoder.encode(DONE), flags=["END_HEADERS", "END_STREAM"]),
    ]


one, two = message(b"one"), message(b"two")
KINDS = {"two messages": [one, two], "empty, two messages": [b"", one, two], "one, empty, two": [one, b"", two],
         "empty within a message": [one, two[:3], b"", two[3:]]}
for what, bodies in KINDS.items():
    port = serve(answer(bodies))
    js = subprocess.run(["node", "of_js.js", str(port)], capture_output=True, text=True).stdout.strip()
    print("%-23s grpclib: %-18s grpcio: %-19s grpc-js: %s" % (what, asyncio.run(of_grpclib(port)), of_grpcio(port), js))
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
two messages            grpclib: one,two,no error   grpcio: one,two, status 0   grpc-js: one,two, status 0
empty, two messages     grpclib: no error           grpcio: one,two, status 0   grpc-js: one,two, status 0
one, empty, two         grpclib: one,no error       grpcio: one,two, status 0   grpc-js: one,two, status 0
empty within a message  grpclib: one,AssertionError grpcio: one,two, status 0   grpc-js: one,two, status 0
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
