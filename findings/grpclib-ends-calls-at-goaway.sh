#!/usr/bin/env bash
# One GOAWAY, early hints, or a frame of a later RFC, and grpclib drops the connection with the calls that are in flight.
#
# Version    grpclib 0.4.9 with h2 4.4.1, hyperframe 6.1.0, hpack 4.2.0. RFC 9113, 6.8: streams up to the last one that GOAWAY names go on; 5.5:
#            unknown frames are ignored; RFC 7838: ALTSVC; RFC 9110, 15.2: a client takes 1xx answers that it did not expect.
# Behaviour  Its client drops the connection at GOAWAY although it names the running stream, at 103 before the answer, and at ALTSVC or a frame of
#            an unknown type: the call ends with StreamTerminatedError. PRIORITY and SETTINGS with unknown numbers are fine.
# Guess      A GOAWAY in two steps is how every gRPC server drains, and calls in flight then end well, as in the other implementations.
# Matters    Each rolling restart of a server costs grpclib's clients the calls in flight, whatever grace the server gives. They have to be repeated
#            by the caller, who cannot know whether they were carried out.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpclib==0.4.9 h2==4.4.1 hyperframe==6.1.0 hpack==4.2.0

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
cat >asked.py <<'END'
import asyncio
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
    try:
        async with UnaryUnaryMethod(channel, "/a.B/C", bytes, bytes).open(timeout=5) as stream:
            await stream.send_message(b"", end=True)
            told = repr(await stream.recv_message())
            await stream.recv_trailing_metadata()
        return told
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)
    finally:
        channel.close()


def first(what, encoder, stream):
    if what == "GOAWAY, last stream 1":
        return [GoAwayFrame(0, last_stream_id=stream, error_code=0)]
    if what == "103 Early Hints":
        return [HeadersFrame(stream, encoder.encode([(":status", "103"), ("link", "</a>")]), flags=["END_HEADERS"])]
    if what == "ALTSVC":
        return [AltSvcFrame(0, b"example.com", b'h2=":443"')]
    if what == "a frame of type 0xb7":
        return [b"\0\0\3\xb7\0" + struct.pack(">I", stream) + b"abc"]
    if what == "PRIORITY":
        return [PriorityFrame(stream, depends_on=0, stream_weight=3)]
    if what == "an unknown setting":
        return [SettingsFrame(0, settings={0xABCD: 7})]
    return []


def answer(what):
    return lambda encoder, stream: [
        *first(what, encoder, stream),
        HeadersFrame(stream, encoder.encode(TOLD), flags=["END_HEADERS"]),
        DataFrame(stream, message(b"hello")),
        HeadersFrame(stream, encoder.encode(DONE), flags=["END_HEADERS", "END_STREAM"]),
    ]


KINDS = "nothing", "PRIORITY", "an unknown setting", "GOAWAY, last stream 1", "103 Early Hints", "ALTSVC", "a frame of type 0xb7"
for what in KINDS:
    print("%-22s %s" % (what, asyncio.run(of_grpclib(serve(answer(what))))))
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
nothing                b'hello'
PRIORITY               b'hello'
an unknown setting     b'hello'
GOAWAY, last stream 1  StreamTerminatedError: Connection lost
103 Early Hints        StreamTerminatedError: Connection lost
ALTSVC                 StreamTerminatedError: Connection lost
a frame of type 0xb7   StreamTerminatedError: Connection lost
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
