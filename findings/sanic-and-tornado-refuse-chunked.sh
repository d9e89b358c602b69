#!/usr/bin/env bash
# Chunked bodies that the RFC allows are 400: `Chunked` with a capital for sanic, trailers for sanic and tornado.
#
# Version    sanic 25.12.1, tornado 6.6.1, from PyPI; waitress 3.0.2 as one that takes them; RFC 9112, section 7: coding
#            names are case-insensitive; section 7.1.2: fields may follow the last chunk.
# Behaviour  The body in small letters and without trailers is read. The same body with one letter changed, or with one
#            field after its last chunk, is refused.
# Guess      Coding names are compared as the names of fields are; trailers, if not wanted, are read and dropped.
# Matters    gRPC-Web proxies and uploads with a checksum at the end (AWS SDKs among them) send trailers.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check sanic==25.12.1 tornado==6.6.1 waitress==3.0.2
cd "$work"

cat > sanic_app.py <<'END'
import sys
from sanic import Sanic, response

app = Sanic("app")

async def any(request, path=""):
    return response.text("%s with %d" % (request.method, len(request.body)))

app.add_route(any, "/<path:path>", methods=["GET", "POST", "HEAD"])
if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), single_process=True)
END

cat > tornado_app.py <<'END'
import asyncio, sys, tornado.web

class Any(tornado.web.RequestHandler):
    def any(self):
        self.write("%s with %d" % (self.request.method, len(self.request.body)))
    get = post = head = any

async def main():
    tornado.web.Application([(".*", Any)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
END

cat > app.py <<'END'
def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    answer = b"%s with %d" % (environ["REQUEST_METHOD"].encode(), len(body))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
END

seen=$(PATH="$work/venv/bin:$PATH" PYTHONPATH="$work" python - <<'END'
import os, signal, socket, subprocess, time

SERVERS = {
    "sanic": "python sanic_app.py {port}",
    "tornado": "python tornado_app.py {port}",
    "waitress": "python -m waitress --listen=127.0.0.1:{port} app:app",
}
FORMS = {
    "plain": (b"chunked", b""),
    "capital": (b"Chunked", b""),
    "trailer": (b"chunked", b"X-Sum: 7\r\n"),
}


def start(command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    process = subprocess.Popen(command.format(port=port), shell=True, **quiet)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("does not start: " + command)


def ask(port, request, patience=3):
    """What comes, and whether the server closed the connection within some seconds."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(patience)
        s.sendall(request)
        came = b""
        try:
            while piece := s.recv(65536):
                came += piece
            return came, "closed"
        except ConnectionResetError:
            return came, "closed"
        except TimeoutError:
            return came, "open"


for name, command in SERVERS.items():
    process, port = start(command)
    for form, (coding, trailer) in FORMS.items():
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
        came, _ = ask(port, head + b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n")
        print("%-9s %-8s %s" % (name, form, came.split(b" ")[1].decode()))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
sanic     plain    200
sanic     capital  400
sanic     trailer  400
tornado   plain    200
tornado   capital  200
tornado   trailer  400
waitress  plain    200
waitress  capital  200
waitress  trailer  200
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
