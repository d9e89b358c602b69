"""What no client should send, by Python's hyperframe and hpack: hostile.py PORT. Ends with "all is well".

Each is far too little to harm anybody, and far more than the limits of the server that it is sent to.
"""

import socket
import sys

import hpack
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CALM, PROTOCOL, SIZE, COMPRESSION = 11, 1, 6, 9


class Peer:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
        self.encoder = hpack.Encoder()
        self.socket.sendall(PREFACE + frames.SettingsFrame(0).serialize())

    def say(self, *those):
        try:
            for one in those:
                self.socket.sendall(one if isinstance(one, bytes) else one.serialize())
            return True
        except OSError:
            return False

    def head(self, stream, path="/", more=(), flags=("END_HEADERS", "END_STREAM")):
        fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "test"), *more]
        return frames.HeadersFrame(stream, self.encoder.encode(fields), flags=flags)

    def hear(self):
        """Frames until the end of the connection."""
        kept = b""
        while True:
            try:
                came = self.socket.recv(65536)
            except OSError:
                return
            if not came:
                return
            kept += came
            while len(kept) >= 9:
                one, length = frames.Frame.parse_frame_header(memoryview(kept[:9]))
                if len(kept) < 9 + length:
                    break
                one.parse_body(memoryview(kept[9 : 9 + length]))
                kept = kept[9 + length :]
                yield one

    def goodbye(self):
        """Why the connection ended: the code of the last GOAWAY."""
        codes = [one.error_code for one in self.hear() if isinstance(one, frames.GoAwayFrame)]
        return codes[-1] if codes else None

    def answer(self, stream):
        """How a stream ended: its code if it was reset, its status if it was answered."""
        for one in self.hear():
            if one.stream_id == stream and isinstance(one, frames.RstStreamFrame):
                return one.error_code
            if one.stream_id == stream and isinstance(one, frames.HeadersFrame):
                return dict(hpack.Decoder().decode(one.data))[":status"]
        return None


def rapid_reset():
    peer = Peer()
    for stream in range(1, 400, 2):
        if not peer.say(peer.head(stream), frames.RstStreamFrame(stream, error_code=8)):
            break
    code = peer.goodbye()
    assert code == CALM, code


def resets_that_are_provoked():
    peer = Peer()
    for stream in range(1, 8000, 2):
        # A length that is none is an error of the stream (RFC 9113, 8.1.1).
        if not peer.say(peer.head(stream, more=[("content-length", "5")])):
            break
    code = peer.goodbye()
    assert code == CALM, code


def endless_head():
    peer = Peer()
    peer.say(peer.head(1, flags=["END_STREAM"]))
    while peer.say(frames.ContinuationFrame(1, hpack.Encoder().encode([("x", "y" * 100)]))):
        pass
    code = peer.goodbye()
    assert code in (CALM, PROTOCOL, None), code


def floods():
    opened = Peer()
    for flood in [
        frames.PingFrame(0, b"12345678"),
        frames.SettingsFrame(0, {3: 100}),
        frames.PriorityFrame(3, 0, 1),
        frames.WindowUpdateFrame(0, 1),
    ]:
        peer = Peer()
        while peer.say(flood):
            pass
        assert peer.goodbye() in (CALM, None), flood
    opened.say(opened.head(1, "/echo", flags=["END_HEADERS"]))
    while opened.say(frames.DataFrame(1, b"")):
        pass
    assert opened.goodbye() in (CALM, None)


def one_entry_again_and_again():
    peer = Peer()
    # 4 KiB in the table, and then a byte for each time that it is meant.
    encoder = hpack.Encoder()
    block = encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")])
    block += encoder.encode([("x", "y" * 3900)]) + b"\xbe" * 4000
    peer.say(frames.HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))
    answer = peer.answer(1)
    # Refused, or the end of the connection.
    assert answer != "200", answer


def table_that_does_not_fit():
    peer = Peer()
    # An update of its size beyond what was agreed on (RFC 7541, 6.3).
    peer.say(frames.HeadersFrame(1, b"\x3f\xff\xff\x7f", flags=["END_HEADERS", "END_STREAM"]))
    code = peer.goodbye()
    assert code in (COMPRESSION, PROTOCOL), code


def entry_that_is_not_there():
    peer = Peer()
    peer.say(frames.HeadersFrame(1, b"\xff\xff\x7f", flags=["END_HEADERS", "END_STREAM"]))
    code = peer.goodbye()
    assert code in (COMPRESSION, PROTOCOL), code


def frame_that_is_too_long():
    peer = Peer()
    peer.say(peer.head(1, "/echo", flags=["END_HEADERS"]), frames.DataFrame(1, bytes(16385)))
    code = peer.goodbye()
    assert code == SIZE, code


def window_beyond_its_end():
    peer = Peer()
    peer.say(frames.WindowUpdateFrame(0, 2**31 - 1), frames.WindowUpdateFrame(0, 2**31 - 1))
    code = peer.goodbye()
    assert code == 3, code


def stream_from_the_other_side():
    peer = Peer()
    peer.say(peer.head(2))
    code = peer.goodbye()
    assert code == PROTOCOL, code


def usual():
    peer = Peer()
    peer.say(peer.head(1))
    assert peer.answer(1) == "200"


for case in [
    rapid_reset,
    resets_that_are_provoked,
    endless_head,
    floods,
    one_entry_again_and_again,
    table_that_does_not_fit,
    entry_that_is_not_there,
    frame_that_is_too_long,
    window_beyond_its_end,
    stream_from_the_other_side,
]:
    print(case.__name__, flush=True)
    case()
    # The server is there for others.
    usual()
print("all is well")
