#!/usr/bin/env bash
# An answer that comes before the request's body is at its end reaches the client of Varnish and Apache after it.
#
# Version    Varnish 7.1.1, Apache 2.4.71; nginx 1.22.1 (proxy_request_buffering off), HAProxy 2.6.12 and squid 5.7 beside (all Debian 12).
# Behaviour  A client sends the head of a POST and three bytes of its body, and stops. The server answers at once, with 413 or with 200. Through nginx, HAProxy and
#            squid the client has it; through Varnish and Apache it has nothing after three seconds, and gets it when it sends the rest.
# Guess      A proxy passes on an answer when it comes; a server may answer early (RFC 9112, 9.3), and does with 401 and 413.
# Matters    A refusal that is meant to save an upload comes when the upload is done. What talks in both directions at once (RPC over chunked bodies, the
#            progress of an import) stands still: each side waits for the other.

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


def serve(answers, then=lambda stream: None):
    """Sends what `answers` has for the path, and closes when `then` has returned."""
    def one(stream):
        head = b""
        while b"\r\n\r\n" not in head:
            part = stream.recv(65536)
            if not part:
                return
            head += part
        came.append(head.decode())
        stream.sendall(answers[head.split()[1].decode()[1:]])
        then(stream)
        stream.close()

    def accept():
        while True:
            threading.Thread(target=one, args=[listener.accept()[0]], daemon=True).start()

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
import select
from started import *


def read_on(stream):
    stream.settimeout(30)
    try:
        while b"0\r\n\r\n" not in (part := stream.recv(65536)) and part:
            pass
    except OSError:
        pass


back, _ = serve({
    "413": b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    "200": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
}, then=read_on)
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
        for path in b"413", b"200":
            with socket.create_connection(("127.0.0.1", port), 30) as stream:
                stream.sendall(b"POST /%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" % path)
                early = bool(select.select([stream], [], [], 3)[0])
                if not early:
                    stream.sendall(b"0\r\n\r\n")
                status = stream.recv(100).split(b" ")[1].decode()
                told.append("%s %s" % (status, "at once" if early else "when the body is at its end"))
        print("%-7s %s" % (name, ", ".join(told)))


run({name: (ports[name], command) for name, command in servers.items()}, ask)
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
nginx   413 at once, 200 at once
HAProxy 413 at once, 200 at once
Varnish 413 when the body is at its end, 200 when the body is at its end
Apache  413 when the body is at its end, 200 when the body is at its end
squid   413 at once, 200 at once
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
