#!/usr/bin/env bash
# A 304 that says how long the page is, and ends by an empty DATA frame, is an error of both libraries named h2.
#
# Version    Rust's h2 0.4.20, by which hyper, reqwest and tonic speak HTTP/2; Python's h2 4.4.1, by which httpx 0.28.1 does;
#            Node 24.21.0. RFC 9110, section 8.6: a 304 may have the Content-Length of the 200 in its place. RFC 9113,
#            section 8.1: the last frame may be of DATA without payload; 8.1.1 has no length to hold for an answer that is
#            defined to have no content.
# Behaviour  The answer is taken if its HEADERS have END_STREAM. With END_STREAM on an empty DATA frame both call it an error,
#            since the length does not hold. An answer to HEAD is taken both ways, and Node takes all four.
# Guess      What holds for HEAD holds for 304.
# Matters    Servers that end each answer by DATA, as Hypercorn does, answer a conditional GET by a failed call, and only
#            where the client has the page. In an application leave the length out of 304.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 600 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --prefix "$work" node@24.21.0
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx[http2]==0.28.1' h2==4.4.1 hyperframe==6.1.0

mkdir -p crate/src
cat > crate/Cargo.toml <<'END'
[package]
name = "asking"
version = "0.0.0"
edition = "2021"
[dependencies]
h2 = "=0.4.20"
http = "1"
tokio = { version = "1", features = ["macros", "net", "rt"] }
[workspace]
END
cat > crate/src/main.rs <<'END'
async fn ask(port: &str, method: &str, path: &str) -> Result<String, h2::Error> {
    let tcp = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await?;
    tokio::spawn(connection);
    let mut send = send.ready().await?;
    let uri = format!("http://a{path}");
    let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
    let (head, mut body) = send.send_request(request, true)?.0.await?.into_parts();
    while let Some(part) = body.data().await {
        part?;
    }
    Ok(head.status.as_u16().to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let asked: Vec<_> = std::env::args().skip(1).collect();
    match ask(&asked[0], &asked[1], &asked[2]).await {
        Ok(status) => println!("{status}"),
        Err(error) => println!("{error}"),
    }
}
END
cargo build --quiet --manifest-path crate/Cargo.toml

cat > asking.mjs <<'END'
import http2 from "node:http2";
const [port, method, path] = process.argv.slice(2);
const session = http2.connect(`http://127.0.0.1:${port}`);
const stream = session.request({ ":method": method, ":path": path });
let told;
stream.on("response", (head) => (told ??= String(head[":status"])));
stream.on("error", (error) => (told = error.message));
stream.on("close", () => {
    console.log(told);
    session.close();
});
stream.resume();
END

cat > asking.py <<'END'
import sys
import httpx

port, method, path = sys.argv[1:]
try:
    with httpx.Client(http1=False, http2=True) as client:
        print(client.request(method, f"http://127.0.0.1:{port}{path}").status_code)
except httpx.HTTPError as error:
    print(error)
END

seen=$("$work/venv/bin/python" - <<'END'
import socket, subprocess, sys, threading

import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

CLIENTS = {
    "h2": ["crate/target/debug/asking"],
    "node": ["node_modules/node/bin/node", "asking.mjs"],
    "httpx": [sys.executable, "asking.py"],
}


def take(s, count):
    came = b""
    while len(came) < count:
        piece = s.recv(count - len(came))
        if not piece:
            raise EOFError
        came += piece
    return came


def serve(s):
    """Answers /head with HEADERS that end the stream, and /data with an empty DATA frame behind them."""
    try:
        take(s, 24)
        s.sendall(SettingsFrame(0).serialize())
        decoder = hpack.Decoder()
        while True:
            frame, length = Frame.parse_frame_header(memoryview(take(s, 9)))
            frame.parse_body(memoryview(take(s, length)))
            if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                s.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
            elif isinstance(frame, HeadersFrame):
                asked = dict(decoder.decode(frame.data))
                status = "200" if asked[":method"] == "HEAD" else "304"
                fields = hpack.Encoder().encode([(":status", status), ("content-length", "5")])
                if asked[":path"] == "/head":
                    last = HeadersFrame(frame.stream_id, fields, flags=["END_HEADERS", "END_STREAM"])
                    s.sendall(last.serialize())
                else:
                    first = HeadersFrame(frame.stream_id, fields, flags=["END_HEADERS"])
                    last = DataFrame(frame.stream_id, b"", flags=["END_STREAM"])
                    s.sendall(first.serialize() + last.serialize())
    except (EOFError, OSError):
        s.close()


def listen(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=listen, args=(listener,), daemon=True).start()
port = str(listener.getsockname()[1])
for name, command in CLIENTS.items():
    for method in ("HEAD", "GET"):
        for path in ("/head", "/data"):
            told = subprocess.run(command + [port, method, path], capture_output=True, text=True).stdout.strip()
            print("%-6s %-4s ended by %-8s %s" % (name, method, "HEADERS" if path == "/head" else "DATA", told))
END
)

expected=$(cat <<'END'
h2     HEAD ended by HEADERS  200
h2     HEAD ended by DATA     200
h2     GET  ended by HEADERS  304
h2     GET  ended by DATA     stream error detected: unspecific protocol error detected
node   HEAD ended by HEADERS  200
node   HEAD ended by DATA     200
node   GET  ended by HEADERS  304
node   GET  ended by DATA     304
httpx  HEAD ended by HEADERS  200
httpx  HEAD ended by DATA     200
httpx  GET  ended by HEADERS  304
httpx  GET  ended by DATA     InvalidBodyLengthError: Expected 5 bytes, received 0
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
