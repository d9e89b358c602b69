#!/usr/bin/env bash
# Five WSGI servers send the application's body in answer to HEAD, and the next answer is lost behind it.
#
# Version    waitress 3.0.2, cheroot 11.1.2, gevent 26.9.0, eventlet 0.41.3, Werkzeug 3.1.9, from PyPI; gunicorn 27.0.1
#            as one that does not; RFC 9110, section 9.3.2: a server sends no content in answer to HEAD.
# Behaviour  An application that returns the same for HEAD as for GET has its body sent after the head.
# Guess      The server drops it, as ASGI servers, Go and Node do; PEP 3333 leaves what is on the wire to the server.
# Matters    Monitors send HEAD. With http.client, which keeps the connection, the second answer starts with the first
#            one's body. Frameworks on top hide it, so plain WSGI applications and middleware meet it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    waitress==3.0.2 cheroot==11.1.2 gevent==26.9.0 eventlet==0.41.3 Werkzeug==3.1.9 gunicorn==27.0.1
cd "$work"

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
    "waitress": "python -m waitress --listen=127.0.0.1:{port} app:app",
    "cheroot": "python -m cheroot --bind 127.0.0.1:{port} app:app",
    "gevent": '''python -c "import app; from gevent import pywsgi; pywsgi.WSGIServer(('127.0.0.1', {port}), app.app).serve_forever()"''',
    "eventlet": '''python -c "import app, eventlet, eventlet.wsgi as w; w.server(eventlet.listen(('127.0.0.1', {port})), app.app)"''',
    "werkzeug": '''python -c "import app; from werkzeug.serving import run_simple; run_simple('127.0.0.1', {port}, app.app)"''',
    "gunicorn gthread": "gunicorn -k gthread --threads 2 -b 127.0.0.1:{port} app:app",
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
    came, _ = ask(port, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    print("%-17s %r" % (name, came.partition(b"\r\n\r\n")[2].decode()))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
waitress          'HEAD with 0'
cheroot           'HEAD with 0'
gevent            'HEAD with 0'
eventlet          'HEAD with 0'
werkzeug          'HEAD with 0'
gunicorn gthread  ''
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
