#!/usr/bin/env bash
# The last 100 bytes of a file of 10 are refused, where the RFC has them be the whole file.
#
# Version    Flask 3.1.3 with Werkzeug 3.1.9, Quart 0.22.0, blacksheep 2.6.4, sanic 25.12.1 from PyPI; express 5.3.0 (send 1.2.1),
#            @fastify/static 10.1.11, serve-handler 6.1.8 from npm. RFC 9110, 14.1.2: if the representation is shorter than the
#            suffix, all of it is used.
# Behaviour  "Range: bytes=-100" of 10 bytes is 416, in two of them without the length that 416 should tell, and an error 500 in
#            sanic. starlette 1.10.0, aiohttp 3.14.5 and CherryPy 18.10.0 answer 206 with the 10 bytes.
# Guess      All use the same few lines for ranges by now, and a suffix is cut to what there is.
# Matters    Who reads the end of an archive or a log asks for its last so many bytes without knowing its length: a small file
#            then looks like an error.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5 blacksheep==2.6.4 cherrypy==18.10.0 flask==3.1.3 quart==0.22.0 sanic==25.12.1 starlette==1.10.0 uvicorn==0.54.0 werkzeug==3.1.9
npm install --silent --no-audit --no-fund --prefix "$work" @fastify/static@10.1.11 express@5.3.0 fastify@5.12.8 send@1.2.1 serve-handler@6.1.8

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
elif name == "cherrypy":
    import cherrypy
    settings = {"server.socket_port": port, "server.socket_host": "127.0.0.1", "log.screen": False, "engine.autoreload.on": False}
    cherrypy.config.update(settings)
    cherrypy.quickstart(type("Root", (), {})(), "/", {"/": {"tools.staticdir.on": True, "tools.staticdir.dir": files}})
elif name == "flask":
    import flask
    from werkzeug.serving import run_simple
    run_simple("127.0.0.1", port, flask.Flask("x", static_folder=files, static_url_path="/"), threaded=True)
elif name == "quart":
    import uvicorn
    from quart import Quart
    uvicorn.run(Quart("x", static_folder=files, static_url_path="/"), port=port, log_level="error")
elif name == "blacksheep":
    import uvicorn
    from blacksheep import Application
    app = Application()
    app.serve_files(files)
    uvicorn.run(app, port=port, log_level="error")
elif name == "sanic":
    from sanic import Sanic
    app = Sanic("app")
    app.static("/f.txt", files + "/f.txt", use_content_range=True)
    app.run("127.0.0.1", port, single_process=True)
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
} else if (name === 'serve-handler') {
    const serve = require('serve-handler');
    require('http').createServer((asked, answer) => serve(asked, answer, { public: files, etag: true })).listen(port, '127.0.0.1');
}
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "starlette": "exec venv/bin/python served.py starlette {port} $PWD/files",
    "aiohttp": "exec venv/bin/python served.py aiohttp {port} $PWD/files",
    "cherrypy": "exec venv/bin/python served.py cherrypy {port} $PWD/files",
    "flask": "exec venv/bin/python served.py flask {port} $PWD/files",
    "quart": "exec venv/bin/python served.py quart {port} $PWD/files",
    "blacksheep": "exec venv/bin/python served.py blacksheep {port} $PWD/files",
    "sanic": "exec venv/bin/python served.py sanic {port} $PWD/files",
    "express": "exec node served.cjs express {port} $PWD/files",
    "fastify": "exec node served.cjs fastify {port} $PWD/files",
    "serve-handler": "exec node served.cjs serve-handler {port} $PWD/files",
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
    print("%-14s %s" % (name, told(*ask(port, "GET", {"Range": "bytes=-100"}))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
starlette      206 bytes 0-9/10 0123456789
aiohttp        206 bytes 0-9/10 0123456789
cherrypy       206 bytes 0-9/10 0123456789
flask          416 bytes */10
quart          416
blacksheep     416
sanic          500
express        416 bytes */10
fastify        416 bytes */10
serve-handler  416 bytes */10
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
