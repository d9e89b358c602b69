#!/usr/bin/env bash
# A client that refuses gzip by weight 0 gets gzip.
#
# Version    starlette 1.10.0, litestar 2.25.0, brotli-asgi 1.7.0, Django 5.2.19, Flask-Compress 1.25. RFC 9110, 12.5.3: weight 0 is
#            "not acceptable"; codings are tokens that are compared as a whole, and without regard to case.
# Behaviour  "gzip;q=0" gets gzip from all five. starlette, litestar and brotli-asgi look for the letters "gzip" anywhere in the field:
#            "notgzip" gets gzip too, and "GZIP" nothing.
# Guess      Weights are what this field is made of: at least "q=0" is obeyed.
# Matters    Clients that cannot expand (embedded ones, probes that compare bytes, proxies that rewrite) send "gzip;q=0"; behind one of
#            these, ask for "identity" alone. A cache that normalises the field must not trust the server to have read it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check starlette==1.10.0 litestar==2.25.0 brotli-asgi==1.7.0 django==5.2.19 \
    flask==3.1.3 flask-compress==1.25

cat >asked.py <<'END'
import asyncio, io, sys

ASKED = ["gzip;q=0", "gzip;q=0.0", "gzip;q=0, *", "notgzip", "GZIP"]
BODY = "hello " * 2000


def over_asgi(app, accepts):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/",
             "raw_path": b"/", "query_string": b"", "root_path": "", "state": {}, "app": None, "client": ("127.0.0.1", 1),
             "server": ("127.0.0.1", 2), "headers": [(b"host", b"x"), (b"accept-encoding", accepts.encode())]}
    asyncio.run(app(scope, receive, send))
    return dict(sent[0]["headers"]).get(b"content-encoding", b"-").decode()


def over_wsgi(app, accepts):
    told = {}

    def start(status, fields, error=None):
        told.update((name.lower(), value) for name, value in fields)

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "x", "SERVER_PORT": "80",
               "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost", "HTTP_ACCEPT_ENCODING": accepts, "wsgi.input": io.BytesIO(),
               "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": False,
               "wsgi.multiprocess": False, "wsgi.run_once": False}
    b"".join(app(environ, start))
    return told.get("content-encoding", "-")


async def plain(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": BODY.encode()})

from brotli_asgi import BrotliMiddleware
from litestar import Litestar, get
from litestar.config.compression import CompressionConfig
from starlette.middleware.gzip import GZipMiddleware


@get("/", media_type="text/plain", sync_to_thread=False)
def of_litestar() -> str:
    return BODY

import flask, flask_compress

of_flask = flask.Flask("x")
flask_compress.Compress(of_flask)
of_flask.get("/")(lambda: flask.Response(BODY, mimetype="text/plain"))

import django
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"], ROOT_URLCONF=__name__)
django.setup()
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse(BODY, content_type="text/plain"))]

APPS = [
    ("starlette", over_asgi, GZipMiddleware(plain)),
    ("litestar", over_asgi, Litestar([of_litestar], compression_config=CompressionConfig(backend="gzip"))),
    ("brotli-asgi", over_asgi, BrotliMiddleware(plain)),
    ("Django", over_wsgi, get_wsgi_application()),
    ("Flask-Compress", over_wsgi, of_flask),
]
print("%-15s" % "", *("%-12s" % asked for asked in ASKED))
for name, over, app in APPS:
    print("%-15s" % name, *("%-12s" % over(app, asked) for asked in ASKED))
END

seen=$(venv/bin/python asked.py | sed 's/ *$//')

expected=$(cat <<'END'
                gzip;q=0     gzip;q=0.0   gzip;q=0, *  notgzip      GZIP
starlette       gzip         gzip         gzip         gzip         -
litestar        gzip         gzip         gzip         gzip         -
brotli-asgi     gzip         gzip         gzip         gzip         -
Django          gzip         gzip         gzip         -            -
Flask-Compress  gzip         gzip         gzip         -            gzip
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
