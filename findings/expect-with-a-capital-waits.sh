#!/usr/bin/env bash
# `Expect: 100-Continue`, with a capital C, gets no 100 from three Python servers, and the client waits.
#
# Version    cheroot 11.1.2, gevent 26.9.0, tornado 6.6.1, from PyPI; RFC 9110, section 10.1.1: the value is
#            case-insensitive. waitress 3.0.2 as one that reads it so.
# Behaviour  With `100-continue` the interim answer comes. With `100-Continue` the server says nothing until the body is
#            there.
# Guess      The value is compared as the RFC says, since each of them compares `chunked` and `close` so.
# Matters    A client that sends the body after the 100 alone never sends it; others, as curl, wait a second for each
#            upload. Microsoft's documents and some SDKs write the capital.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    cheroot==11.1.2 gevent==26.9.0 tornado==6.6.1 waitress==3.0.2
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
    "cheroot": "python -m cheroot --bind 127.0.0.1:{port} app:app",
    "gevent": '''python -c "import app; from gevent import pywsgi; pywsgi.WSGIServer(('127.0.0.1', {port}), app.app).serve_forever()"''',
    "tornado": "python tornado_app.py {port}",
    "waitress": "python -m waitress --listen=127.0.0.1:{port} app:app",
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
    for value in b"100-continue", b"100-Continue":
        request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: " + value + b"\r\n\r\n"
        came, _ = ask(port, request)
        print("%-9s %s %s" % (name, value.decode(), came.split(b"\r\n")[0].decode() or "nothing within 3 s"))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
cheroot   100-continue HTTP/1.1 100 Continue
cheroot   100-Continue nothing within 3 s
gevent    100-continue HTTP/1.1 100 Continue
gevent    100-Continue nothing within 3 s
tornado   100-continue HTTP/1.1 100 (Continue)
tornado   100-Continue nothing within 3 s
waitress  100-continue HTTP/1.1 100 Continue
waitress  100-Continue HTTP/1.1 100 Continue
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
