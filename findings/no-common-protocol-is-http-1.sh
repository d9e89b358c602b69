#!/usr/bin/env bash
# A TLS client that speaks none of the server's protocols gets HTTP/1.1 from HAProxy, Hypercorn and Python's ssl.
#
# Version    HAProxy 2.6.12 and nginx 1.22.1 (Debian 12), Hypercorn 0.18.0, Twisted 26.10.0, Python 3.11's ssl, Node 20. RFC 7301, 3.2: a server that
#            supports none of the protocols that are offered SHALL end the handshake with no_application_protocol.
# Behaviour  All are set to protocols (h2 and http/1.1, or http/1.1), and "xmpp-client" is all that is offered. nginx and Node end it as
#            the RFC says; Twisted with internal_error. HAProxy, Hypercorn and Python finish the handshake without a protocol, and go on with HTTP.
# Guess      Who sets a list of protocols has those spoken and none else.
# Matters    A client that meant another service (a name that moved, a proxy by the wrong port) learns it from garbage, not from an alert, and
#            must itself check that a protocol was selected. An h2-only client before HAProxy without h2 fails the same way, later and obscurely.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which haproxy nginx >/dev/null || apt-get install --quiet=2 --yes --no-install-recommends haproxy nginx-light >/dev/null 2>&1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hypercorn==0.18.0 "twisted[tls,http2]==26.10.0"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out certificate.pem -days 2 \
    -subj /CN=localhost 2>/dev/null
cat key.pem certificate.pem >both.pem

cat >of_node.js <<'END'
const fs = require("fs");
const options = { key: fs.readFileSync("key.pem"), cert: fs.readFileSync("certificate.pem") };
require("https").createServer(options, (request, response) => response.end("hello")).listen(Number(process.argv[2]), "127.0.0.1");
END
cat >of_hypercorn.py <<'END'
import asyncio, sys
from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


config = Config()
config.bind, config.certfile, config.keyfile = ["127.0.0.1:" + sys.argv[1]], "certificate.pem", "key.pem"
asyncio.run(serve(app, config))
END
cat >of_twisted.py <<'END'
import sys
from twisted.internet import endpoints, reactor
from twisted.web import server, static

listen = "ssl:%s:interface=127.0.0.1:privateKey=key.pem:certKey=certificate.pem" % sys.argv[1]
endpoints.serverFromString(reactor, listen).listen(server.Site(static.Data(b"hello", "text/plain")))
reactor.run()
END
cat >of_python.py <<'END'
import http.server, ssl, sys

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("certificate.pem", "key.pem")
context.set_alpn_protocols(["http/1.1"])
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
END
cat >asked.py <<'END'
import os, socket, ssl, subprocess, time


def nginx(port):
    with open("nginx.conf", "w") as conf:
        conf.write("""daemon off; master_process off; error_log stderr crit; pid %(here)s/nginx.pid; events {} http { access_log off;
            server { listen 127.0.0.1:%(port)d ssl http2; ssl_certificate %(here)s/certificate.pem;
            ssl_certificate_key %(here)s/key.pem; location / { return 200 hello; } } }""" % {"here": os.getcwd(), "port": port})
    return ["nginx", "-c", os.getcwd() + "/nginx.conf"]


def haproxy(port):
    with open("haproxy.cfg", "w") as conf:
        conf.write("""
            defaults
              mode http
              timeout client 3s
            frontend f
              bind 127.0.0.1:%d ssl crt both.pem alpn h2,http/1.1
              http-request return status 200 content-type text/plain string hello
            \n""" % port)
    return ["haproxy", "-db", "-f", "haproxy.cfg"]


SERVERS = {"nginx": nginx, "HAProxy": haproxy, "Node": lambda port: ["node", "of_node.js", str(port)]}
for name in "Hypercorn", "Twisted", "Python":
    SERVERS[name] = lambda port, name=name: ["venv/bin/python", "of_%s.py" % name.lower(), str(port)]
for name, command in SERVERS.items():
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    for offer in "http/1.1", "xmpp-client":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([offer])
        try:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost") as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                told = "protocol %s, answer %s" % (client.selected_alpn_protocol(), client.recv(12).decode())
        except ssl.SSLError as error:
            told = str(error).split("] ")[1].split(" (")[0]
        print("%-9s offered %-12s %s" % (name, offer, told))
    server.terminate()
    server.wait()
END

seen=$(venv/bin/python asked.py)

expected=$(cat <<'END'
nginx     offered http/1.1     protocol http/1.1, answer HTTP/1.1 200
nginx     offered xmpp-client  tlsv1 alert no application protocol
HAProxy   offered http/1.1     protocol http/1.1, answer HTTP/1.1 200
HAProxy   offered xmpp-client  protocol None, answer HTTP/1.1 200
Node      offered http/1.1     protocol http/1.1, answer HTTP/1.1 200
Node      offered xmpp-client  tlsv1 alert no application protocol
Hypercorn offered http/1.1     protocol http/1.1, answer HTTP/1.1 200
Hypercorn offered xmpp-client  protocol None, answer HTTP/1.1 200
Twisted   offered http/1.1     protocol http/1.1, answer HTTP/1.1 404
Twisted   offered xmpp-client  tlsv1 alert internal error
Python    offered http/1.1     protocol http/1.1, answer HTTP/1.0 200
Python    offered xmpp-client  protocol None, answer HTTP/1.0 200
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
