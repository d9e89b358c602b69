#!/usr/bin/env bash
# A POST whose chunks Varnish does not read is 503 for the client, and a whole request with an empty body for the server.
#
# Version    Varnish 7.1.1; nginx 1.22.1, HAProxy 2.6.12, Apache 2.4.71 and squid 5.7 beside (all Debian 12). RFC 9112, 7.1.1 and 7.1.2, have chunk extensions
#            and trailers in requests too.
# Behaviour  A chunk line `2;a=b` is an error for Varnish, and so are trailers. It answers 503; but the request to the server, begun before, it ends in order, with
#            the last chunk: the server has a POST with no body, or with all of it, and answers 200. The others pass the body on.
# Guess      A proxy that cannot read a body refuses it before, or breaks its own request off, so that the server knows.
# Matters    The server does what it was asked for by an empty or whole body, and the caller is told that nothing came: a retry does it twice, an upload replaces its file by
#            nothing. Behind Varnish a body needs its length, or a digest, to be believed.

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
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = {
    "plain": HEAD + b"2\r\nhi\r\n0\r\n\r\n",
    "extension": HEAD + b"2;a=b\r\nhi\r\n0\r\n\r\n",
    "trailer": HEAD + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
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
nginx   plain: 200, the server has 'hi'; extension: 200, the server has 'hi'; trailer: 200, the server has 'hi'
HAProxy plain: 200, the server has 'hi'; extension: 200, the server has 'hi'; trailer: 200, the server has 'hi'
Varnish plain: 200, the server has 'hi'; extension: 503, the server has ''; trailer: 503, the server has 'hi'
Apache  plain: 200, the server has 'hi'; extension: 200, the server has 'hi'; trailer: 200, the server has 'hi'
squid   plain: 200, the server has 'hi'; extension: 200, the server has 'hi'; trailer: 200, the server has 'hi'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
