#!/usr/bin/env bash
# Two binary values in one metadata field: an error in grpcio, other bytes in grpclib, two values in grpc-js.
#
# Version    grpcio 1.85.3, grpclib 0.4.9 with h2 4.4.1, @grpc/grpc-js 1.14.7, hyperframe 6.1.0, hpack 4.2.0. gRPC over HTTP/2: fields of one name may be
#            joined with commas, and implementations must split binary ones at the comma before they decode each.
# Behaviour  "AQ,Ag" in trailers, the bytes 1 and 2: grpcio ends the call with INTERNAL (illegal base64), grpclib hands over the three bytes 01 00 20,
#            grpc-js the two values. All take two fields, and padding.
# Guess      The sentence is in the protocol's only page, and joining fields is what every proxy may do; all do it.
# Matters    Whatever joins fields on the way (HTTP/1.1 bridges, maps of fields in middlewares) breaks tracing contexts and status details for
#            clients in Python. Send each binary value in a field of its own, and never join "-bin" fields.

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
const options = { deadline: Date.now() + 5000 };
const call = client.makeUnaryRequest("/a.B/C", same, same, Buffer.from(""), options, () => client.close());
call.on("status", (status) => console.log(status.metadata.get("x-bin").map((value) => value.toString("hex")).join(" ")));
END
cat >asked.py <<'END'
import asyncio, subprocess
import grpc
from grpclib.client import Channel, UnaryUnaryMethod
from raw import *


class Bytes:
    __content_subtype__ = "proto"

    def encode(self, message, kind):
        return message

    def decode(self, data, kind):
        return data


async def of_grpclib(port):
    channel = Channel("127.0.0.1", port, codec=Bytes())
    async with UnaryUnaryMethod(channel, "/a.B/C", bytes, bytes).open(timeout=5) as stream:
        await stream.send_message(b"", end=True)
        await stream.recv_message()
        await stream.recv_trailing_metadata()
        told = stream.trailing_metadata.getall("x-bin")
    channel.close()
    return " ".join(one.hex() for one in told)


def of_grpcio(port):
    try:
        _, call = grpc.insecure_channel("127.0.0.1:%d" % port).unary_unary("/a.B/C").with_call(b"", timeout=5)
        return " ".join(value.hex() for _, value in call.trailing_metadata())
    except grpc.RpcError as error:
        return error.code().name


def answer(fields):
    return lambda encoder, stream: [
        HeadersFrame(stream, encoder.encode(TOLD), flags=["END_HEADERS"]),
        DataFrame(stream, message(b"hello")),
        HeadersFrame(stream, encoder.encode(DONE + [("x-bin", one) for one in fields]), flags=["END_HEADERS", "END_STREAM"]),
    ]


for fields in ["AQ"], ["AQ=="], ["AQ", "Ag"], ["AQ,Ag"], ["AQ==,Ag=="]:
    port = serve(answer(fields))
    js = subprocess.run(["node", "of_js.js", str(port)], capture_output=True, text=True).stdout.strip()
    print("%-13s grpcio: %-9s grpclib: %-7s grpc-js: %s" % (" | ".join(fields), of_grpcio(port), asyncio.run(of_grpclib(port)), js))
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
AQ            grpcio: 01        grpclib: 01      grpc-js: 01
AQ==          grpcio: 01        grpclib: 01      grpc-js: 01
AQ | Ag       grpcio: 01 02     grpclib: 01 02   grpc-js: 01 02
AQ,Ag         grpcio: INTERNAL  grpclib: 010020  grpc-js: 01 02
AQ==,Ag==     grpcio: INTERNAL  grpclib: 01      grpc-js: 01 02
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
