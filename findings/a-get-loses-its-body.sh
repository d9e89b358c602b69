#!/usr/bin/env bash
# A GET with a body reaches the server without it behind Varnish; squid says 411 Length Required to one that has a length.
#
# Version    Varnish 7.1.1, squid 5.7; nginx 1.22.1, HAProxy 2.6.12 and Apache 2.4.71 beside (all Debian 12). RFC 9110, 9.3.1: content of a GET has no
#            defined semantics, and may lead some to reject the request; RFC 9112, 6: it is framed as any other.
# Behaviour  GET with Content-Length: 2 and two bytes: Varnish passes the GET on without them, in pass mode too, and the answer is 200. squid answers 411; the
#            same GET in chunks it passes on, body and all. Varnish answers 400 to such a HEAD. nginx, HAProxy and Apache pass the body on.
# Guess      Refused, or passed on whole; and 411 is for those who say no length.
# Matters    Searches that send their query as the body of a GET, as Elasticsearch's clients do, ask for everything behind Varnish, and get an answer that looks right.
#            Use POST, or QUERY, which all five pass on.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
installed() { for tool in "$@"; do [ -x "/usr/sbin/$tool" ] || return 1; done; }
installed nginx haproxy apache2 squid varnishd ||
    apt-get install --quiet=2 --yes --no-install-recommends nginx-light haproxy apache2 squid varnish >/dev/null 2>&1

cat >started.py <<'END'
import os, socket, subprocess, threading, time

HERE = os.getcwd()


def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def of_chunks(stream):
    """A body in chunks, or None if it ends before its end."""
    body = b""
    while line := stream.readline():
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while (trailer := stream.readline()) not in (b"\r\n", b""):
                pass
            return body if trailer else None
        body += stream.read(size)
        stream.readline()


def serve(says_100):
    """Reads each request as HTTP/1.1 has it, and notes its line and its body."""
    def one(connection):
        stream = connection.makefile("rb")
        line = stream.readline().decode()
        fields = {}
        while (field := stream.readline().decode().strip()):
            name, _, value = field.partition(":")
            fields[name.lower()] = value.strip().lower()
        if says_100 and "expect" in fields:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = fields.get("transfer-encoding") == "chunked"
        body = of_chunks(stream) if chunked else stream.read(int(fields.get("content-length", "0")))
        if line:
            came.append((line.split(" ")[0], body))
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        stream.close()
        connection.close()

    def bounded(connection):
        try:
            one(connection)
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=bounded, args=[listener.accept()[0]], daemon=True).start()

    came = []
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1], came


def write(name, text):
    with open(name, "w") as file:
        file.write(text)
    return HERE + "/" + name


def apache(port, more, *modules):
    load = "".join("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n" % (name, name) for name in ("mpm_event", "authz_core", "proxy", "proxy_http") + modules)
    conf = "ServerRoot %s\nPidFile apache.pid\nDefaultRuntimeDir %s\nListen 127.0.0.1:%d\nServerName a\nErrorLog apache.log\nUser nobody\nGroup nogroup\n"
    return ["/usr/sbin/apache2", "-X", "-f", write("apache.conf", conf % (HERE, HERE, port) + load + more)]


def nginx(port, listen, http, location):
    paths = "".join("%s_temp_path %s/%s; " % (name, HERE, name) for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = "daemon off; master_process off; error_log stderr crit; pid %s/nginx.pid; events {} http { access_log off; %s%s server { listen 127.0.0.1:%d%s; location / { %s } } }"
    return ["/usr/sbin/nginx", "-c", write("nginx.conf", conf % (HERE, paths, http, port, listen, location))]


def haproxy(port, bind, more, back):
    conf = "defaults\n mode http\n timeout client 20s\n timeout server 20s\n timeout connect 20s\n option forwardfor\n%sfrontend f\n bind 127.0.0.1:%d%s\n default_backend b\nbackend b\n%s"
    return ["/usr/sbin/haproxy", "-f", write("haproxy.cfg", conf % (more, port, bind, back))]


def varnish(port, of, back, more):
    vcl = 'vcl 4.1; backend b { .host = "127.0.0.1"; .port = "%d"; } %s' % (back, more)
    return ["/usr/sbin/varnishd", "-F", "-n", HERE + "/varnish", "-a", "127.0.0.1:%d%s" % (port, of), "-f", write("of.vcl", vcl), "-s", "malloc,20m"]


def squid(port, of, back, more=""):
    conf = "http_port 127.0.0.1:%d %saccel defaultsite=a\nhttp_access allow all\ncache_peer 127.0.0.1 parent %d 0 no-query no-digest no-netdb-exchange originserver\nnever_direct allow all\ncache_mem 20 MB\n" \
        "access_log none\ncache_log /dev/null\npid_filename none\nshutdown_lifetime 0 seconds\npinger_enable off\n%s"
    return ["/usr/sbin/squid", "-N", "-f", write("squid.conf", conf % (port, of, back, more))]


def run(servers, ask):
    """Starts each of {name: (port, command)}, and asks each."""
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _, command in servers.values()]
    try:
        for name, (port, _) in servers.items():
            for _ in range(1000):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)
            else:
                raise SystemExit(name + " does not listen")
        ask()
    finally:
        for one in running:
            one.terminate()
        for one in running:
            try:
                one.wait(5)
            except subprocess.TimeoutExpired:
                one.kill()


def exchange(port, sent):
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as stream:
            stream.sendall(sent)
            got = b""
            while part := stream.recv(65536):
                got += part
    except ConnectionError:
        pass
    head, _, body = got.decode("latin-1").partition("\r\n\r\n")
    return head, body
END

cat >asked.py <<'END'
from started import *

back, came = serve(says_100=True)
REST = b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
REQUESTS = {
    "GET": b"GET" + REST + b"Content-Length: 2\r\n\r\nhi",
    "GET in chunks": b"GET" + REST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "HEAD": b"HEAD" + REST + b"Content-Length: 2\r\n\r\nhi",
    "QUERY": b"QUERY" + REST + b"Content-Length: 2\r\n\r\nhi",
}
names = "nginx", "HAProxy", "Varnish", "Apache", "squid"
ports = {name: free() for name in names}
servers = {
    "nginx": nginx(ports["nginx"], "", "", "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_request_buffering off; proxy_pass http://127.0.0.1:%d;" % back),
    "HAProxy": haproxy(ports["HAProxy"], "", "", " server s 127.0.0.1:%d\n" % back),
    "Varnish": varnish(ports["Varnish"], "", back, "sub vcl_recv { return (pass); }"),
    "Apache": apache(ports["Apache"], "ProxyPass / http://127.0.0.1:%d/\n" % back),
    "squid": squid(ports["squid"], "", back, "cache deny all\n"),
}


def ask():
    for name, port in ports.items():
        told = []
        for what, request in REQUESTS.items():
            came.clear()
            head, _ = exchange(port, request)
            until = time.monotonic() + 5
            while head.split(" ")[1] in ("200", "503") and not came and time.monotonic() < until:
                time.sleep(0.02)
            body = "nothing" if not came else "no end" if came[0][1] is None else repr(came[0][1])[1:]
            told.append("%s: %s, the server has %s" % (what, head.split(" ")[1], body))
        print("%-7s %s" % (name, "; ".join(told)))


run({name: (ports[name], command) for name, command in servers.items()}, ask)
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
nginx   GET: 200, the server has 'hi'; GET in chunks: 200, the server has 'hi'; HEAD: 200, the server has 'hi'; QUERY: 200, the server has 'hi'
HAProxy GET: 200, the server has 'hi'; GET in chunks: 200, the server has 'hi'; HEAD: 200, the server has 'hi'; QUERY: 200, the server has 'hi'
Varnish GET: 200, the server has ''; GET in chunks: 200, the server has ''; HEAD: 400, the server has nothing; QUERY: 200, the server has 'hi'
Apache  GET: 200, the server has 'hi'; GET in chunks: 200, the server has 'hi'; HEAD: 200, the server has 'hi'; QUERY: 200, the server has 'hi'
squid   GET: 411, the server has nothing; GET in chunks: 200, the server has 'hi'; HEAD: 411, the server has nothing; QUERY: 200, the server has 'hi'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
