#!/usr/bin/env bash
# A server's Retry-After makes urllib3 sleep and ask again, unasked and beyond the timeout; requests does not.
#
# Version    urllib3 2.8.0, requests 2.34.2.
# Behaviour  urllib3.request("GET", url, timeout=1), nothing else set, is answered 503 with "Retry-After: 2". It sleeps for two seconds and asks again, three
#            times: the answer comes after six seconds, and the server has had four requests. The same for 413 and 429, and for PUT; not for POST, nor for 500.
#            Its list of statuses to repeat (`status_forcelist`) is empty. Through requests it is asked once.
# Guess      Without a list of statuses an answer is an answer; and a call with a timeout of 1 s ends in about a second.
# Matters    A server that is in trouble and says "in ten minutes" stops the threads of its callers for half an hour, at their first call, with no log and no
#            way for their deadlines to end it. Pass retries=False, or Retry(respect_retry_after_header=False).

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check urllib3==2.8.0 requests==2.34.2

cat >asked.py <<'END'
import socket, threading, time
import requests, urllib3

came, status = [], b""


def serve(connection):
    asked = b""
    while part := connection.recv(65536):
        asked += part
        if asked.endswith(b"\r\n\r\n"):
            asked = b""
            came.append(1)
            connection.sendall(b"HTTP/1.1 " + status + b" No\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")


def accept():
    while True:
        threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
url = "http://127.0.0.1:%d/" % listener.getsockname()[1]


def ask(name, method, code, call):
    global status
    came.clear()
    status, began = code, time.monotonic()
    call()
    took = "at least six seconds" if time.monotonic() - began > 5.9 else "less"
    print("%-8s %-4s %s: %d requests, %s" % (name, method, code.decode(), len(came), took))


for method, code in ("GET", b"503"), ("PUT", b"503"), ("GET", b"429"), ("GET", b"413"), ("POST", b"503"), ("GET", b"500"):
    ask("urllib3", method, code, lambda: urllib3.request(method, url, timeout=1))
ask("requests", "GET", b"503", lambda: requests.get(url, timeout=1))
END
seen=$(venv/bin/python asked.py)

expected=$(cat <<'END'
urllib3  GET  503: 4 requests, at least six seconds
urllib3  PUT  503: 4 requests, at least six seconds
urllib3  GET  429: 4 requests, at least six seconds
urllib3  GET  413: 4 requests, at least six seconds
urllib3  POST 503: 1 requests, less
urllib3  GET  500: 1 requests, less
requests GET  503: 1 requests, less
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
