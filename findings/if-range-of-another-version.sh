#!/usr/bin/env bash
# A download is resumed with bytes of another version of the file, though If-Range names the old one.
#
# Version    tornado 6.6.1, CherryPy 18.10.0, sanic 25.12.1, aiohttp 3.14.5 (entity tags alone) from PyPI; serve-handler 6.1.8, hono
#            4.13.19 with @hono/node-server 2.1.9 from npm; starlette 1.10.0, Flask 3.1.3 and express 5.3.0 as ones that are right. RFC
#            9110, 13.1.5 and 14.2: if the validator does not match, the whole is sent.
# Behaviour  "Range: bytes=5-" with If-Range of another entity tag, or of an old date, is 206 with the new file's bytes. With a
#            range behind the end of what is now a shorter file it is 416 rather than the new file.
# Guess      Who sends Accept-Ranges: bytes knows If-Range, without which resuming is a gamble.
# Matters    curl -C with an entity tag, browsers and package managers join halves of two versions, and nobody notices.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5 cherrypy==18.10.0 flask==3.1.3 sanic==25.12.1 starlette==1.10.0 tornado==6.6.1 uvicorn==0.54.0 werkzeug==3.1.9
npm install --silent --no-audit --no-fund --prefix "$work" @hono/node-server@2.1.9 express@5.3.0 hono@4.13.19 send@1.2.1 serve-handler@6.1.8

cat >served.py <<'END'
import sys

name, port, files = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name == "tornado":
    import asyncio, tornado.web
    async def main():
        tornado.web.Application([("/(.*)", tornado.web.StaticFileHandler, {"path": files})]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()
    asyncio.run(main())
elif name == "cherrypy":
    import cherrypy
    settings = {"server.socket_port": port, "server.socket_host": "127.0.0.1", "log.screen": False, "engine.autoreload.on": False}
    cherrypy.config.update(settings)
    cherrypy.quickstart(type("Root", (), {})(), "/", {"/": {"tools.staticdir.on": True, "tools.staticdir.dir": files}})
elif name == "sanic":
    from sanic import Sanic
    app = Sanic("app")
    app.static("/f.txt", files + "/f.txt", use_content_range=True)
    app.run("127.0.0.1", port, single_process=True)
elif name == "aiohttp":
    from aiohttp import web
    app = web.Application()
    app.router.add_static("/", files)
    web.run_app(app, port=port, host="127.0.0.1", print=None)
elif name == "starlette":
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles
    uvicorn.run(Starlette(routes=[Mount("/", StaticFiles(directory=files))]), port=port, log_level="error")
elif name == "flask":
    import flask
    from werkzeug.serving import run_simple
    run_simple("127.0.0.1", port, flask.Flask("x", static_folder=files, static_url_path="/"), threaded=True)
END

cat >served.cjs <<'END'
const [, , name, port, files] = process.argv;
if (name === 'serve-handler') {
    const serve = require('serve-handler');
    require('http').createServer((asked, answer) => serve(asked, answer, { public: files, etag: true })).listen(port, '127.0.0.1');
} else if (name === 'hono') {
    Promise.all([import('hono'), import('@hono/node-server'), import('@hono/node-server/serve-static')]).then(([{ Hono }, { serve }, { serveStatic }]) => {
        const app = new Hono();
        app.use('/*', serveStatic({ root: './files' }));
        serve({ fetch: app.fetch, port: +port, hostname: '127.0.0.1' });
    });
} else if (name === 'express') {
    const express = require('express');
    express().use(express.static(files)).listen(port, '127.0.0.1');
}
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "tornado": "exec venv/bin/python served.py tornado {port} $PWD/files",
    "cherrypy": "exec venv/bin/python served.py cherrypy {port} $PWD/files",
    "sanic": "exec venv/bin/python served.py sanic {port} $PWD/files",
    "aiohttp": "exec venv/bin/python served.py aiohttp {port} $PWD/files",
    "serve-handler": "exec node served.cjs serve-handler {port} $PWD/files",
    "hono": "exec node served.cjs hono {port} $PWD/files",
    "starlette": "exec venv/bin/python served.py starlette {port} $PWD/files",
    "flask": "exec venv/bin/python served.py flask {port} $PWD/files",
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
    for label, validator in (("tag", '"another"'), ("date", "Thu, 01 Jan 1998 00:00:00 GMT")):
        for asked in ("bytes=5-", "bytes=20-"):
            print("%-14s %-5s %-9s %s" % (name, label, asked, told(*ask(port, "GET", {"Range": asked, "If-Range": validator}))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
tornado        tag   bytes=5-  206 bytes 5-9/10 56789
tornado        tag   bytes=20- 416 bytes */10
tornado        date  bytes=5-  206 bytes 5-9/10 56789
tornado        date  bytes=20- 416 bytes */10
cherrypy       tag   bytes=5-  206 bytes 5-9/10 56789
cherrypy       tag   bytes=20- 416 bytes */10
cherrypy       date  bytes=5-  206 bytes 5-9/10 56789
cherrypy       date  bytes=20- 416 bytes */10
sanic          tag   bytes=5-  206 bytes 5-9/10 56789
sanic          tag   bytes=20- 416 bytes */10
sanic          date  bytes=5-  206 bytes 5-9/10 56789
sanic          date  bytes=20- 416 bytes */10
aiohttp        tag   bytes=5-  206 bytes 5-9/10 56789
aiohttp        tag   bytes=20- 416 bytes */10
aiohttp        date  bytes=5-  200 0123456789
aiohttp        date  bytes=20- 200 0123456789
serve-handler  tag   bytes=5-  206 bytes 5-9/10 56789
serve-handler  tag   bytes=20- 416 bytes */10
serve-handler  date  bytes=5-  206 bytes 5-9/10 56789
serve-handler  date  bytes=20- 416 bytes */10
hono           tag   bytes=5-  206 bytes 5-9/10 56789
hono           tag   bytes=20- 416 bytes */10
hono           date  bytes=5-  206 bytes 5-9/10 56789
hono           date  bytes=20- 416 bytes */10
starlette      tag   bytes=5-  200 0123456789
starlette      tag   bytes=20- 200 0123456789
starlette      date  bytes=5-  200 0123456789
starlette      date  bytes=20- 200 0123456789
flask          tag   bytes=5-  200 0123456789
flask          tag   bytes=20- 200 0123456789
flask          date  bytes=5-  200 0123456789
flask          date  bytes=20- 200 0123456789
express        tag   bytes=5-  200 0123456789
express        tag   bytes=20- 200 0123456789
express        date  bytes=5-  200 0123456789
express        date  bytes=20- 200 0123456789
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
