#!/usr/bin/env bash
# Hypercorn hands `get` to the application as `GET`; three other servers refuse it, three pass it on as it is.
#
# Version    Hypercorn 0.18.0; waitress 3.0.2, cheroot 11.1.2, gunicorn 27.0.1; gevent 26.9.0, eventlet 0.41.3, daphne
#            4.2.3; from PyPI; RFC 9110, section 9.1: the method token is case-sensitive.
# Behaviour  A request whose method is in small letters is another method than GET. With Hypercorn the handler for GET
#            answers it.
# Guess      All pass it on as it came, and the application says 501 or 405; h11 below Hypercorn hands it on unchanged.
# Matters    The same request gets 200, 400 or 405, by the server below the same application. A proxy's access log and
#            the application's then name two methods for one request.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    Hypercorn==0.18.0 waitress==3.0.2 cheroot==11.1.2 gunicorn==27.0.1 gevent==26.9.0 eventlet==0.41.3 \
    daphne==4.2.3
cd "$work"

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
    "hypercorn": "hypercorn -b 127.0.0.1:{port} asgi:app",
    "waitress": "python -m waitress --listen=127.0.0.1:{port} app:app",
    "cheroot": "python -m cheroot --bind 127.0.0.1:{port} app:app",
    "gunicorn gthread": "gunicorn -k gthread --threads 2 -b 127.0.0.1:{port} app:app",
    "gevent": '''python -c "import app; from gevent import pywsgi; pywsgi.WSGIServer(('127.0.0.1', {port}), app.app).serve_forever()"''',
    "eventlet": '''python -c "import app, eventlet, eventlet.wsgi as w; w.server(eventlet.listen(('127.0.0.1', {port})), app.app)"''',
    "daphne": "daphne -p {port} asgi:app",
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
    came, _ = ask(port, b"get / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head, _, body = came.partition(b"\r\n\r\n")
    status = head.split(b" ")[1].decode()
    print("%-17s %s %s" % (name, status, body.decode().split(" ")[0] if status == "200" else ""))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
hypercorn         200 GET
waitress          400 
cheroot           400 
gunicorn gthread  400 
gevent            200 get
eventlet          200 get
daphne            200 get
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
