#!/usr/bin/env bash
# Six Python servers keep a connection open although the request says `Connection: keep-alive, close`.
#
# Version    waitress 3.0.2, cheroot 11.1.2, gunicorn 27.0.1 (threads), gevent 26.9.0, eventlet 0.41.3, tornado 6.6.1,
#            from PyPI; RFC 9110, section 7.6.1: Connection is a list of options; RFC 9112, section 9.6: a server closes
#            after the answer to a request with the close option.
# Behaviour  The option alone closes the connection. As an element of a list, or in a second Connection line, it does
#            not: the answer comes, and the connection stays.
# Guess      All read the list, as they do for `TE` or `Accept`.
# Matters    A client that adds a hop-by-hop field names it beside close, as `Connection: TE, close`. If it reads to the
#            end of the connection, it waits for the server's idle timeout. A server's own tests use the short form.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    waitress==3.0.2 cheroot==11.1.2 gunicorn==27.0.1 gevent==26.9.0 eventlet==0.41.3 tornado==6.6.1
cd "$work"

cat > app.py <<'END'
def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    answer = b"%s with %d" % (environ["REQUEST_METHOD"].encode(), len(body))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
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

seen=$(PATH="$work/venv/bin:$PATH" PYTHONPATH="$work" python - <<'END'
import os, signal, socket, subprocess, time

SERVERS = {
    "waitress": "python -m waitress --listen=127.0.0.1:{port} app:app",
    "cheroot": "python -m cheroot --bind 127.0.0.1:{port} app:app",
    "gunicorn gthread": "gunicorn -k gthread --threads 2 --keep-alive 60 -b 127.0.0.1:{port} app:app",
    "gevent": '''python -c "import app; from gevent import pywsgi; pywsgi.WSGIServer(('127.0.0.1', {port}), app.app).serve_forever()"''',
    "eventlet": '''python -c "import app, eventlet, eventlet.wsgi as w; w.server(eventlet.listen(('127.0.0.1', {port})), app.app)"''',
    "tornado": "python tornado_app.py {port}",
}
FORMS = {
    "close": b"Connection: close\r\n",
    "keep-alive, close": b"Connection: keep-alive, close\r\n",
    "TE, close": b"TE: trailers\r\nConnection: TE, close\r\n",
    "two lines": b"TE: trailers\r\nConnection: TE\r\nConnection: close\r\n",
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
    for form, lines in FORMS.items():
        came, end = ask(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
        assert came.startswith(b"HTTP/1.1 200"), came
        print("%-17s %-18s %s" % (name, form, end))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
waitress          close              closed
waitress          keep-alive, close  open
waitress          TE, close          open
waitress          two lines          open
cheroot           close              closed
cheroot           keep-alive, close  open
cheroot           TE, close          open
cheroot           two lines          open
gunicorn gthread  close              closed
gunicorn gthread  keep-alive, close  open
gunicorn gthread  TE, close          open
gunicorn gthread  two lines          open
gevent            close              closed
gevent            keep-alive, close  open
gevent            TE, close          open
gevent            two lines          open
eventlet          close              closed
eventlet          keep-alive, close  open
eventlet          TE, close          open
eventlet          two lines          open
tornado           close              closed
tornado           keep-alive, close  open
tornado           TE, close          open
tornado           two lines          open
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
