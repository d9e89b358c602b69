#!/usr/bin/env bash
# "PROXY UNKNOWN" is refused by servers that read the PROXY protocol, and in its long form by HAProxy, which defined it.
#
# Version    HAProxy 2.6.12 and nginx 1.22.1 (Debian 12), gunicorn 27.0.1, Twisted 26.10.0. proxy-protocol.txt, 2.1: a receiver ignores
#            what stands between UNKNOWN and the end of the line, and takes the connection's own addresses; its longest line is of this kind.
# Behaviour  "PROXY UNKNOWN": 400 from gunicorn, a connection that ends without an answer from Twisted. With addresses behind it: 400 from
#            gunicorn, a reset from HAProxy, right from Twisted. nginx takes both.
# Guess      The rule stands in the text that HAProxy's authors wrote, with such a line as its example of the longest: all follow it.
# Matters    HAProxy sends "PROXY UNKNOWN" for clients that came over a Unix-domain socket: gunicorn answers each of them 400, Twisted
#            none. Whoever forwards what is unknown leaves the addresses out, and before these two takes version 2.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which haproxy nginx >/dev/null || apt-get install --quiet=2 --yes --no-install-recommends haproxy nginx-light >/dev/null 2>&1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1 twisted==26.10.0

cat >of_gunicorn.py <<'END'
def app(environ, start):
    address = environ["REMOTE_ADDR"].encode()
    start("200 OK", [("Content-Length", str(len(address)))])
    return [address]
END
cat >of_twisted.py <<'END'
import sys
from twisted.internet import endpoints, reactor
from twisted.web import resource, server


class Whence(resource.Resource):
    isLeaf = True

    def render_GET(self, request):
        return request.getClientAddress().host.encode()


endpoints.serverFromString(reactor, "haproxy:tcp:%s:interface=127.0.0.1" % sys.argv[1]).listen(server.Site(Whence()))
reactor.run()
END
cat >asked.py <<'END'
import os, socket, subprocess, sys, time

LINES = {
    "TCP4": "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80",
    "UNKNOWN": "PROXY UNKNOWN",
    "UNKNOWN and addresses": "PROXY UNKNOWN 2001:db8::1 2001:db8::2 1234 80",
}


def nginx(port):
    with open("nginx.conf", "w") as conf:
        conf.write("""daemon off; master_process off; error_log stderr crit; pid %s/nginx.pid;
            events {} http { access_log off; server { listen 127.0.0.1:%d proxy_protocol;
            set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol; location / { return 200 $remote_addr; } } }""" % (os.getcwd(), port))
    return ["nginx", "-c", os.getcwd() + "/nginx.conf"]


def haproxy(port):
    with open("haproxy.cfg", "w") as conf:
        conf.write("""
            defaults
              mode http
              timeout client 3s
            frontend f
              bind 127.0.0.1:%d accept-proxy
              http-request return status 200 content-type text/plain lf-string "%%[src]"
            \n""" % port)
    return ["haproxy", "-db", "-f", "haproxy.cfg"]


SERVERS = {
    "HAProxy": haproxy,
    "nginx": nginx,
    "gunicorn": lambda port: ["venv/bin/gunicorn", "-b", "127.0.0.1:%d" % port, "--proxy-protocol=auto", "--proxy-allow-from=*",
                              "of_gunicorn:app"],
    "Twisted": lambda port: ["venv/bin/python", "of_twisted.py", str(port)],
}
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
    for kind, line in LINES.items():
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            answer = b""
            try:
                client.sendall((line + "\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").encode())
                while some := client.recv(4096):
                    answer += some
                ended = "ends without an answer"
            except ConnectionError:
                ended = "resets"
        status = answer.split()[1].decode() if answer else ended
        body = answer.split(b"\r\n\r\n", 1)[-1].decode().strip() if status == "200" else ""
        print(("%-9s %-22s %s %s" % (name, kind, status, body)).rstrip())
    server.terminate()
    server.wait()
END

seen=$(venv/bin/python asked.py)

expected=$(cat <<'END'
HAProxy   TCP4                   200 192.0.2.1
HAProxy   UNKNOWN                200 127.0.0.1
HAProxy   UNKNOWN and addresses  resets
nginx     TCP4                   200 192.0.2.1
nginx     UNKNOWN                200 127.0.0.1
nginx     UNKNOWN and addresses  200 127.0.0.1
gunicorn  TCP4                   200 192.0.2.1
gunicorn  UNKNOWN                400
gunicorn  UNKNOWN and addresses  400
Twisted   TCP4                   200 192.0.2.1
Twisted   UNKNOWN                ends without an answer
Twisted   UNKNOWN and addresses  200 127.0.0.1
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
