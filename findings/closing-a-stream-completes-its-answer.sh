#!/usr/bin/env bash
# Node's `http2stream.close(NGHTTP2_INTERNAL_ERROR)` ends half an answer as if it were whole.
#
# Version    Node 24.21.0, of the npm package node; the same with 20.20.2 once what was written has been sent. Its
#            documentation: close(code) closes the stream by sending an RST_STREAM frame to the peer.
# Behaviour  A handler sends half of an answer, fails, and closes the stream with an error code. The peer gets an empty DATA
#            frame with END_STREAM, and no RST_STREAM: the body looks whole. `destroy(error)` sends the code; `destroy()`
#            sends NO_ERROR.
# Guess      RST_STREAM with that code, each time: to tell a cut answer from a whole one is what the code is for.
# Matters    A client, a proxy or a cache keeps half an answer as the whole, without an error anywhere, unless Content-Length
#            gives it away. Of a server on Node ask for lengths, or for trailers that say that all was sent.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --prefix "$work" node@24.21.0
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check hyperframe==6.1.0

cat > server.mjs <<'END'
import http2 from "node:http2";
const code = http2.constants.NGHTTP2_INTERNAL_ERROR;
const ends = {
    "/close": (stream) => stream.close(code),
    "/destroy-error": (stream) => stream.destroy(new Error("broken")),
    "/destroy": (stream) => stream.destroy(),
};
const server = http2.createServer();
server.on("sessionError", () => {});
server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
    stream.write("half", () => setTimeout(() => ends[headers[":path"]](stream), 200));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
END

seen=$("$work/venv/bin/python" - <<'END'
import socket, subprocess

from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

node = subprocess.Popen(["node_modules/node/bin/node", "server.mjs"], stdout=subprocess.PIPE, text=True)
port = int(node.stdout.readline())


def take(s, count):
    came = b""
    while len(came) < count:
        piece = s.recv(count - len(came))
        if not piece:
            raise EOFError
        came += piece
    return came


def get(path):
    """The frames of the answer."""
    # Without the table: GET, http, the path, an authority.
    fields = b"\x82\x86" + b"\x04" + bytes([len(path)]) + path.encode() + b"\x01\x01a"
    head = HeadersFrame(1, fields, flags=["END_HEADERS", "END_STREAM"])
    frames = []
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(2)
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize() + head.serialize())
        try:
            while True:
                frame, length = Frame.parse_frame_header(memoryview(take(s, 9)))
                frame.parse_body(memoryview(take(s, length)))
                if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                    s.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
                is_last = "END_STREAM" in frame.flags
                if isinstance(frame, DataFrame):
                    frames.append("DATA %r%s" % (frame.data.decode(), " END_STREAM" if is_last else ""))
                elif isinstance(frame, RstStreamFrame):
                    frames.append("RST_STREAM %d" % frame.error_code)
        except (TimeoutError, EOFError, ConnectionError):
            pass
    return ", ".join(frames)


for path in ("/close", "/destroy-error", "/destroy"):
    print("%-14s %s" % (path[1:], get(path)))
node.kill()
END
)

expected=$(cat <<'END'
close          DATA 'half', DATA '' END_STREAM
destroy-error  DATA 'half', RST_STREAM 2
destroy        DATA 'half', RST_STREAM 0
END
)
printf '%s
' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:
%s
' "$expected" >&2
    exit 1
}
