#!/usr/bin/env bash
# An empty line before a request is refused, or closes the connection without an answer, in five Python servers.
#
# Version    gevent 26.9.0, eventlet 0.41.3, Werkzeug 3.1.9, Hypercorn 0.18.0 (h11), sanic 25.12.1, from PyPI; waitress
#            3.0.2 and granian 2.8.9 as two that take it; RFC 9112, section 2.2: a server SHOULD ignore at least one
#            empty line that comes before the request line.
# Behaviour  A POST whose body is followed by CRLF is answered. The next request on the connection gets 400, or the
#            connection ends without a byte.
# Guess      An old rule that all follow.
# Matters    Some clients end a POST with a CRLF that no length counts, and telnet users press Enter twice. The fault
#            shows at the request after it, and on kept connections alone.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    waitress==3.0.2 granian==2.8.9 gevent==26.9.0 eventlet==0.41.3 Werkzeug==3.1.9 Hypercorn==0.18.0 \
    sanic==25.12.1
cd "$work"

cat > app.py <<'END'
def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    answer = b"%s with %d" % (environ["REQUEST_METHOD"].encode(), len(body))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
END

cat > asgi.py <<'END'
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            await send({"type": (await receive())["type"] + ".complete"})
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    answer = b"%s with %d" % (scope["method"].encode(), len(body))
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})
END

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

seen=$(PATH="$work/venv/bin:$PATH" PYTHONPATH="$work" python - <<'END'
import os, signal, socket, subprocess, time

SERVERS = {
    "waitress": "python -m waitress --listen=127.0.0.1:{port} app:app",
    "granian": "granian --interface asgi --port {port} asgi:app",
    "gevent": '''python -c "import app; from gevent import pywsgi; pywsgi.WSGIServer(('127.0.0.1', {port}), app.app).serve_forever()"''',
    "eventlet": '''python -c "import app, eventlet, eventlet.wsgi as w; w.server(eventlet.listen(('127.0.0.1', {port})), app.app)"''',
    "werkzeug": '''python -c "import app; from werkzeug.serving import run_simple; run_simple('127.0.0.1', {port}, app.app)"''',
    "hypercorn": "hypercorn -b 127.0.0.1:{port} asgi:app",
    "sanic": "python sanic_app.py {port}",
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
    request = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    came, end = ask(port, request)
    print("%-10s %s" % (name, came.split(b"\r\n")[0][:12].decode() or "no answer, " + end))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
waitress   HTTP/1.1 200
granian    HTTP/1.1 200
gevent     HTTP/1.1 400
eventlet   no answer, closed
werkzeug   no answer, closed
hypercorn  HTTP/1.1 400
sanic      HTTP/1.1 400
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
