#!/usr/bin/env bash
# Two ranges that both lie within the file are answered 416, "not satisfiable".
#
# Version    aiohttp 3.14.5, Flask 3.1.3 with Werkzeug 3.1.9, sanic 25.12.1, Quart 0.22.0; starlette 1.10.0 for the second case. RFC
#            9110, 15.5.17: 416 is for a range of which nothing overlaps the file; a server that does not want several sends 200.
# Behaviour  "bytes=0-1,4-5" of 10 bytes: 416. "bytes=0-0,20-30", of which one lies within: 416 by starlette too. tornado, express and
#            fastify answer 200 with the whole, CherryPy and starlette the parts.
# Guess      A server without multipart/byteranges ignores the field and sends all, as the RFC invites.
# Matters    416 tells a client that its idea of the length is wrong: download managers and PDF viewers then begin anew, or give
#            up, instead of taking the whole.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5 cherrypy==18.10.0 flask==3.1.3 quart==0.22.0 sanic==25.12.1 starlette==1.10.0 tornado==6.6.1 uvicorn==0.54.0 werkzeug==3.1.9
npm install --silent --no-audit --no-fund --prefix "$work" @fastify/static@10.1.11 express@5.3.0 fastify@5.12.8 send@1.2.1

cat >served.py <<'END'
import sys

name, port, files = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name == "aiohttp":
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
elif name == "starlette":
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles
    uvicorn.run(Starlette(routes=[Mount("/", StaticFiles(directory=files))]), port=port, log_level="error")
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
if (name === 'express') {
    const express = require('express');
    express().use(express.static(files)).listen(port, '127.0.0.1');
} else if (name === 'fastify') {
    const app = require('fastify')();
    app.register(require('@fastify/static'), { root: files });
    app.listen({ port: +port, host: '127.0.0.1' });
}
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "aiohttp": "exec venv/bin/python served.py aiohttp {port} $PWD/files",
    "flask": "exec venv/bin/python served.py flask {port} $PWD/files",
    "sanic": "exec venv/bin/python served.py sanic {port} $PWD/files",
    "quart": "exec venv/bin/python served.py quart {port} $PWD/files",
    "starlette": "exec venv/bin/python served.py starlette {port} $PWD/files",
    "cherrypy": "exec venv/bin/python served.py cherrypy {port} $PWD/files",
    "tornado": "exec venv/bin/python served.py tornado {port} $PWD/files",
    "express": "exec node served.cjs express {port} $PWD/files",
    "fastify": "exec node served.cjs fastify {port} $PWD/files",
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
    for asked in ("bytes=0-1,4-5", "bytes=0-0,20-30"):
        print("%-10s %-16s %s" % (name, asked, told(*ask(port, "GET", {"Range": asked}))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
aiohttp    bytes=0-1,4-5    416 bytes */10
aiohttp    bytes=0-0,20-30  416 bytes */10
flask      bytes=0-1,4-5    416 bytes */10
flask      bytes=0-0,20-30  416 bytes */10
sanic      bytes=0-1,4-5    416 bytes */10
sanic      bytes=0-0,20-30  416 bytes */10
quart      bytes=0-1,4-5    416
quart      bytes=0-0,20-30  416
starlette  bytes=0-1,4-5    206 (parts)
starlette  bytes=0-0,20-30  416 bytes */10
cherrypy   bytes=0-1,4-5    206 (parts)
cherrypy   bytes=0-0,20-30  206 bytes 0-0/10 0
tornado    bytes=0-1,4-5    200 0123456789
tornado    bytes=0-0,20-30  200 0123456789
express    bytes=0-1,4-5    200 0123456789
express    bytes=0-0,20-30  206 bytes 0-0/10 0
fastify    bytes=0-1,4-5    200 0123456789
fastify    bytes=0-0,20-30  206 bytes 0-0/10 0
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
