#!/usr/bin/env bash
# A server that cannot compress in the way that is asked refuses the request, instead of sending it as it is.
#
# Version    CherryPy 18.10.0 (tools.gzip), koa 3.3.0 with koa-compress 5.2.2. RFC 9110, 12.5.3: if no listed coding is available, the
#            answer goes without a coding, unless "identity;q=0" or "*;q=0" refuses that too; then 406 would be the status.
# Behaviour  CherryPy: 406 for "br", "zstd" or "GZIP", which it does not know; 200 for "br, identity". koa-compress: 500 where nothing
#            at all is acceptable ("identity;q=0, *;q=0").
# Guess      An optional compression is left out, and the worst that can be asked is a 406.
# Matters    A client or proxy that offers brotli alone gets errors from one server, and a page from all others. A health check that
#            names a coding in capitals takes the service out.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cherrypy==18.10.0
npm install --silent --no-audit --no-fund --prefix "$work" koa@3.3.0 koa-compress@5.2.2

cat >served.py <<'END'
import sys, cherrypy

class Root:
    @cherrypy.expose
    def index(self):
        return b"hello " * 2000

cherrypy.config.update({"server.socket_port": int(sys.argv[1]), "server.socket_host": "127.0.0.1", "log.screen": False,
                        "engine.autoreload.on": False})
cherrypy.quickstart(Root(), "/", {"/": {"tools.gzip.on": True}})
END

cat >served.cjs <<'END'
const Koa = require('koa'), compress = require('koa-compress');
const app = new Koa();
app.silent = true;
app.use((compress.default || compress)());
app.use((context) => { context.type = 'text/plain'; context.body = 'hello '.repeat(2000); });
app.listen(+process.argv[2], '127.0.0.1');
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {"cherrypy": "exec venv/bin/python served.py {port}", "koa": "exec node served.cjs {port}"}
ASKED = ["gzip", "br", "zstd", "GZIP", "br, identity", "identity;q=0, *;q=0"]
for name, command in SERVERS.items():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    process = subprocess.Popen(command.format(port=port), shell=True, **quiet)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    for asked in ASKED:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/", headers={"Accept-Encoding": asked})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        print("%-9s %-20s %d %s" % (name, asked, answer.status, answer.getheader("content-encoding") or "-"))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
cherrypy  gzip                 200 gzip
cherrypy  br                   406 -
cherrypy  zstd                 406 -
cherrypy  GZIP                 406 -
cherrypy  br, identity         200 -
cherrypy  identity;q=0, *;q=0  406 -
koa       gzip                 200 gzip
koa       br                   200 br
koa       zstd                 200 -
koa       GZIP                 200 gzip
koa       br, identity         200 br
koa       identity;q=0, *;q=0  500 -
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
