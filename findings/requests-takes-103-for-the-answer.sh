#!/usr/bin/env bash
# Python's requests returns 103 Early Hints as the answer, with an empty body.
#
# Version    requests 2.34.2, urllib3 2.8.0, on http.client of Python 3.11 (HTTPResponse.begin passes over 100 alone).
#            RFC 9110 15.2: a client must be able to parse one or more 1xx responses before the final one, expected or
#            not.
# Behaviour  The server sends 103 with a Link field, then 200 with a body. requests.get gives status 103 and no body.
#            The same with 102. Behind a 100 it gives the 200.
# Guess      Interim responses are read and dropped, as curl, Go, Node and httpx do, or 101 is the only exception.
# Matters    A server, or a proxy in front of it, that begins to send early hints breaks such clients without an error
#            in anybody's log: raise_for_status accepts 103 too. Send 1xx to clients that are known to take them.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    requests==2.34.2 urllib3==2.8.0
seen=$(PYTHONPATH="$work/packages" python3 - <<'END'
import requests, socket, threading

FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nanswer"


def get(interim):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        server, _ = listener.accept()
        server.recv(65536)
        server.sendall(interim + FINAL)
        server.shutdown(socket.SHUT_WR)
        server.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    with requests.Session() as session:
        session.trust_env = False
        response = session.get(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=10)
        response.raise_for_status()
        return response.status_code, response.text


print("nothing before it:", get(b""))
print("100 before it:", get(b"HTTP/1.1 100 Continue\r\n\r\n"))
print("102 before it:", get(b"HTTP/1.1 102 Processing\r\n\r\n"))
print("103 before it:", get(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"))
END
)

expected=$(cat <<'END'
nothing before it: (200, 'answer')
100 before it: (200, 'answer')
102 before it: (102, '')
103 before it: (103, '')
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
