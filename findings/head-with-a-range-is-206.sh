#!/usr/bin/env bash
# HEAD with a Range is answered 206, with the length of the part, by nearly all servers of files.
#
# Version    starlette 1.10.0, aiohttp 3.14.5, tornado 6.6.1, Flask 3.1.3 with Werkzeug 3.1.9, CherryPy 18.10.0, Quart 0.22.0;
#            express 5.3.0 (send 1.2.1), @fastify/static 10.1.11, sirv 3.0.2, serve-handler 6.1.8. RFC 9110, 14.2: a server must
#            ignore Range in a request whose method has no ranges, and GET is the only one that has.
# Behaviour  HEAD with "Range: bytes=0-1" is 206 with Content-Length: 2. sanic 25.12.1, blacksheep 2.6.4 and hono 4.13.19 answer
#            200 with 10.
# Guess      The RFC's "must" is followed, since one condition on the method does it.
# Matters    A client that learns the length of a file by HEAD, with a Range set for all of its requests, takes 2 for it. A
#            cache or proxy that keeps the 206 has a part without a body.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5 blacksheep==2.6.4 cherrypy==18.10.0 flask==3.1.3 quart==0.22.0 sanic==25.12.1 starlette==1.10.0 tornado==6.6.1 uvicorn==0.54.0 werkzeug==3.1.9
npm install --silent --no-audit --no-fund --prefix "$work" @fastify/static@10.1.11 @hono/node-server@2.1.9 express@5.3.0 fastify@5.12.8 hono@4.13.19 send@1.2.1 serve-handler@6.1.8 sirv@3.0.2

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
elif name == "tornado":
    import asyncio, tornado.web
    async def main():
        tornado.web.Application([("/(.*)", tornado.web.StaticFileHandler, {"path": files})]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()
    asyncio.run(main())
elif name == "flask":
    import flask
    from werkzeug.serving import run_simple
    run_simple("127.0.0.1", port, flask.Flask("x", static_folder=files, static_url_path="/"), threaded=True)
elif name == "cherrypy":
    import cherrypy
    settings = {"server.socket_port": port, "server.socket_host": "127.0.0.1", "log.screen": False, "engine.autoreload.on": False}
    cherrypy.config.update(settings)
    cherrypy.quickstart(type("Root", (), {})(), "/", {"/": {"tools.staticdir.on": True, "tools.staticdir.dir": files}})
elif name == "quart":
    import uvicorn
    from quart import Quart
    uvicorn.run(Quart("x", static_folder=files, static_url_path="/"), port=port, log_level="error")
elif name == "sanic":
    from sanic import Sanic
    app = Sanic("app")
    app.static("/f.txt", files + "/f.txt", use_content_range=True)
    app.run("127.0.0.1", port, single_process=True)
elif name == "blacksheep":
    import uvicorn
    from blacksheep import Application
    app = Application()
    app.serve_files(files)
    uvicorn.run(app, port=port, log_level="error")
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
} else if (name === 'sirv') {
    require('http').createServer(require('sirv')(files)).listen(port, '127.0.0.1');
} else if (name === 'serve-handler') {
    const serve = require('serve-handler');
    require('http').createServer((asked, answer) => serve(asked, answer, { public: files, etag: true })).listen(port, '127.0.0.1');
} else if (name === 'hono') {
    Promise.all([import('hono'), import('@hono/node-server'), import('@hono/node-server/serve-static')]).then(([{ Hono }, { serve }, { serveStatic }]) => {
        const app = new Hono();
        app.use('/*', serveStatic({ root: './files' }));
        serve({ fetch: app.fetch, port: +port, hostname: '127.0.0.1' });
    });
}
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "starlette": "exec venv/bin/python served.py starlette {port} $PWD/files",
    "aiohttp": "exec venv/bin/python served.py aiohttp {port} $PWD/files",
    "tornado": "exec venv/bin/python served.py tornado {port} $PWD/files",
    "flask": "exec venv/bin/python served.py flask {port} $PWD/files",
    "cherrypy": "exec venv/bin/python served.py cherrypy {port} $PWD/files",
    "quart": "exec venv/bin/python served.py quart {port} $PWD/files",
    "express": "exec node served.cjs express {port} $PWD/files",
    "fastify": "exec node served.cjs fastify {port} $PWD/files",
    "sirv": "exec node served.cjs sirv {port} $PWD/files",
    "serve-handler": "exec node served.cjs serve-handler {port} $PWD/files",
    "sanic": "exec venv/bin/python served.py sanic {port} $PWD/files",
    "blacksheep": "exec venv/bin/python served.py blacksheep {port} $PWD/files",
    "hono": "exec node served.cjs hono {port} $PWD/files",
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
    answer, _ = ask(port, "HEAD", {"Range": "bytes=0-1"})
    print("%-14s %s, length %s" % (name, told(answer, ""), answer.getheader("content-length")))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
starlette      206 bytes 0-1/10, length 2
aiohttp        206 bytes 0-1/10, length 2
tornado        206 bytes 0-1/10, length 2
flask          206 bytes 0-1/10, length 2
cherrypy       206 bytes 0-1/10, length 2
quart          206 bytes 0-1/10, length 2
express        206 bytes 0-1/10, length 2
fastify        206 bytes 0-1/10, length 2
sirv           206 bytes 0-1/10, length 2
serve-handler  206 bytes 0-1/10, length 2
sanic          200, length 10
blacksheep     200, length 10, 0
hono           200, length 10
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
