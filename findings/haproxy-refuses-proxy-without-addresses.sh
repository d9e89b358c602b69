#!/usr/bin/env bash
# A PROXY header of version 2 without addresses is refused by HAProxy, whose protocol it is, by Apache and by gunicorn.
#
# Version    HAProxy 2.6.12, Apache 2.4.71, nginx 1.22.1, Varnish 7.1.1, squid 5.7, lighttpd 1.4.69 (all Debian 12), gunicorn 27.0.1. The protocol, 2.2: UNSPEC is
#            for what is unknown or of another kind, the only family that each receiver must know, and the one to fall back to; it "is free to accept".
# Behaviour  The command PROXY with the family UNSPEC, or with Unix addresses: HAProxy and Apache close, gunicorn answers 500. The others answer, with the
#            address of the connection, or none. The command LOCAL is taken by all.
# Guess      Who must know it takes it; and who has no use for a Unix address goes on without it, as version 1 has it for UNKNOWN.
# Matters    A sidecar or balancer that takes its clients on a Unix socket, and says so, works until HAProxy stands behind it. Who sends the header should say LOCAL
#            for whatever is not TCP over IP.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
installed() { for tool in "$@"; do [ -x "/usr/sbin/$tool" ] || return 1; done; }
installed nginx haproxy apache2 squid varnishd lighttpd ||
    apt-get install --quiet=2 --yes --no-install-recommends nginx-light haproxy apache2 squid varnish lighttpd >/dev/null 2>&1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1

cat >started.py <<'END'
import os, socket, subprocess, threading, time

HERE = os.getcwd()


def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(answer):
    """Answers each request with what `answer` makes of its head, one a connection."""
    def one(stream):
        head = b""
        while b"\r\n\r\n" not in head:
            part = stream.recv(65536)
            if not part:
                return
            head += part
        fields, body = answer(head)
        date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime())
        told = "HTTP/1.1 200 OK\r\nConnection: close\r\n%s%sContent-Length: %d\r\n\r\n%s" % (date, fields, len(body), body)
        stream.sendall(told.encode())
        stream.close()

    def accept():
        while True:
            threading.Thread(target=one, args=[listener.accept()[0]], daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


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
import struct
from started import *


back = serve(lambda head: ("", next((line.split(": ")[1] for line in head.decode().split("\r\n") if line.lower().startswith("x-forwarded-for")), "none")))
names = "nginx", "Varnish", "squid", "lighttpd", "HAProxy", "Apache", "gunicorn"
ports = {name: free() for name in names}
light = 'server.document-root = "%s"\nserver.port = %d\nserver.bind = "127.0.0.1"\nserver.modules = ("mod_extforward", "mod_proxy")\nextforward.hap-PROXY = "enable"\n' \
    'extforward.forwarder = ("all" => "trust")\nextforward.headers = ()\nproxy.server = ("" => (("host" => "127.0.0.1", "port" => %d)))\nserver.errorlog = "%s/light.log"\n'
write("app.py", """
def app(environ, start):
    body = str(environ.get("REMOTE_ADDR")).encode()
    start("200 OK", [("Content-Length", str(len(body))), ("Connection", "close")])
    return [body]
""")
servers = {
    "nginx": nginx(ports["nginx"], " proxy_protocol", "", "proxy_set_header X-Forwarded-For $proxy_protocol_addr; proxy_pass http://127.0.0.1:%d;" % back),
    "Varnish": varnish(ports["Varnish"], ",PROXY", back, "sub vcl_recv { return (pass); }"),
    "squid": squid(ports["squid"], "require-proxy-header ", back, "proxy_protocol_access allow all\ncache deny all\n"),
    "lighttpd": ["/usr/sbin/lighttpd", "-D", "-f", write("light.conf", light % (HERE, ports["lighttpd"], back, HERE))],
    "HAProxy": haproxy(ports["HAProxy"], " accept-proxy", "", " server s 127.0.0.1:%d\n" % back),
    "Apache": apache(ports["Apache"], "RemoteIPProxyProtocol On\nProxyPass / http://127.0.0.1:%d/\n" % back, "remoteip"),
    "gunicorn": ["venv/bin/gunicorn", "-b", "127.0.0.1:%d" % ports["gunicorn"], "--proxy-protocol", "v2", "--proxy-allow-from", "*", "app:app"],
}


def header(command, family, body):
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, family]) + struct.pack(">H", len(body)) + body


INET = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack(">HH", 1234, 80)


def extension(length):
    return b"\xe0" + struct.pack(">H", length) + b"x" * length


def ask():
    for name, port in ports.items():
        told = []
        for kind, sent in HEADERS.items():
            head, body = exchange(port, sent + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            told.append("%s %s" % (kind, head.split(" ")[1] if head else "closed"))
        print("%-8s %s" % (name, ", ".join(told)))


HEADERS = {
    "TCP": header(1, 0x11, INET),
    "LOCAL": header(0, 0, b""),
    "UNSPEC": header(1, 0, b""),
    "Unix": header(1, 0x31, b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")),
}
run({name: (ports[name], command) for name, command in servers.items()}, ask)
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
nginx    TCP 200, LOCAL 200, UNSPEC 200, Unix 200
Varnish  TCP 200, LOCAL 200, UNSPEC 200, Unix 200
squid    TCP 200, LOCAL 200, UNSPEC 200, Unix 200
lighttpd TCP 200, LOCAL 200, UNSPEC 200, Unix 200
HAProxy  TCP 200, LOCAL 200, UNSPEC closed, Unix closed
Apache   TCP 200, LOCAL 200, UNSPEC closed, Unix closed
gunicorn TCP 200, LOCAL 200, UNSPEC 500, Unix 500
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
