#!/usr/bin/env bash
# A range in a unit that nobody knows is refused, or is taken for bytes.
#
# Version    starlette 1.10.0, aiohttp 3.14.5, Flask 3.1.3 with Werkzeug 3.1.9, sanic 25.12.1, Quart 0.22.0, CherryPy 18.10.0 from
#            PyPI; serve-handler 6.1.8, sirv 3.0.2, hono 4.13.19 from npm. RFC 9110, 14.2: an origin server must ignore a Range with a
#            unit that it does not understand.
# Behaviour  "Range: items=0-1" is 400 by starlette, 416 by five, and bytes 0 and 1 by CherryPy and sirv. "Bytes=0-1" with a capital,
#            which is the same unit (14.1), is 416 by sanic and serve-handler.
# Guess      Anything but "bytes=" falls through to a plain 200.
# Matters    APIs page by "Range: items=0-24" (and "rows", "pages"). Behind a handler for files, or a gateway built on one, such a
#            request is an error, or gets two bytes.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5 cherrypy==18.10.0 flask==3.1.3 quart==0.22.0 sanic==25.12.1 starlette==1.10.0 tornado==6.6.1 uvicorn==0.54.0 werkzeug==3.1.9
npm install --silent --no-audit --no-fund --prefix "$work" express@5.3.0 send@1.2.1 serve-handler@6.1.8 sirv@3.0.2

cat >served.py <<'END'
import sys

name, port, files = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name == "starlette":
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles
    uvicorn.run(Starlette(routes=[Mount("/", StaticFiles(directory=files))]), port=port, log_level="error")
elif name == "aiohttp":
    from aiohttp import web
    app = web.Application()
    app.router.add_static("/", files)
    web.run_app(app, port=port, host="127.0.0.1", print=None)
elif name == "flask":
    import flask
    from werkzeug.serving import run_simple
    run_simple("127.0.0.1", port, flask.Flask("x", static_folder=files, static_url_path="/"), threaded=True)
elif name == "sanic":
    from sanic import Sanic
    app = Sanic("app")
    app.static("/f.txt", files + "/f.txt", use_content_range=True)
    app.run("127.0.0.1", port, single_process=True)
elif name == "quart":
    import uvicorn
    from quart import Quart
    uvicorn.run(Quart("x", static_folder=files, static_url_path="/"), port=port, log_level="error")
elif name == "cherrypy":
    import cherrypy
    settings = {"server.socket_port": port, "server.socket_host": "127.0.0.1", "log.screen": False, "engine.autoreload.on": False}
    cherrypy.config.update(settings)
    cherrypy.quickstart(type("Root", (), {})(), "/", {"/": {"tools.staticdir.on": True, "tools.staticdir.dir": files}})
elif name == "tornado":
    import asyncio, tornado.web
    async def main():
        tornado.web.Application([("/(.*)", tornado.web.StaticFileHandler, {"path": files})]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()
    asyncio.run(main())
END

cat >served.cjs <<'END'
const [, , name, port, files] = process.argv;
if (name === 'serve-handler') {
    const serve = require('serve-handler');
    require('http').createServer((asked, answer) => serve(asked, answer, { public: files, etag: true })).listen(port, '127.0.0.1');
} else if (name === 'sirv') {
    require('http').createServer(require('sirv')(files)).listen(port, '127.0.0.1');
} else if (name === 'express') {
    const express = require('express');
    express().use(express.static(files)).listen(port, '127.0.0.1');
}
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "starlette": "exec venv/bin/python served.py starlette {port} $PWD/files",
    "aiohttp": "exec venv/bin/python served.py aiohttp {port} $PWD/files",
    "flask": "exec venv/bin/python served.py flask {port} $PWD/files",
    "sanic": "exec venv/bin/python served.py sanic {port} $PWD/files",
    "quart": "exec venv/bin/python served.py quart {port} $PWD/files",
    "cherrypy": "exec venv/bin/python served.py cherrypy {port} $PWD/files",
    "serve-handler": "exec node served.cjs serve-handler {port} $PWD/files",
    "sirv": "exec node served.cjs sirv {port} $PWD/files",
    "tornado": "exec venv/bin/python served.py tornado {port} $PWD/files",
    "express": "exec node served.cjs express {port} $PWD/files",
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


def ask(port, method, fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, "/f.txt", headers=fields)
    answer = connection.getresponse()
    body = answer.read().decode("latin1")
    connection.close()
    return answer, body


def told(answer, body):
    kind = answer.getheader("content-type") or ""
    body = "(parts)" if "byteranges" in kind else body if answer.status in (200, 206) else ""
    return " ".join(part for part in (str(answer.status), answer.getheader("content-range") or "", body) if part)


for name, command in SERVERS.items():
    process, port = start(command)
    for asked in ("items=0-1", "Bytes=0-1"):
        print("%-14s %-10s %s" % (name, asked, told(*ask(port, "GET", {"Range": asked}))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
starlette      items=0-1  400
starlette      Bytes=0-1  206 bytes 0-1/10 01
aiohttp        items=0-1  416 bytes */10
aiohttp        Bytes=0-1  206 bytes 0-1/10 01
flask          items=0-1  416 bytes */10
flask          Bytes=0-1  206 bytes 0-1/10 01
sanic          items=0-1  416 bytes */10
sanic          Bytes=0-1  416 bytes */10
quart          items=0-1  416
quart          Bytes=0-1  206 bytes 0-1/10 01
cherrypy       items=0-1  206 bytes 0-1/10 01
cherrypy       Bytes=0-1  206 bytes 0-1/10 01
serve-handler  items=0-1  416 bytes */10
serve-handler  Bytes=0-1  416 bytes */10
sirv           items=0-1  206 bytes 0-1/10 01
sirv           Bytes=0-1  206 bytes 0-1/10 01
tornado        items=0-1  200 0123456789
tornado        Bytes=0-1  200 0123456789
express        items=0-1  200 0123456789
express        Bytes=0-1  200 0123456789
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
