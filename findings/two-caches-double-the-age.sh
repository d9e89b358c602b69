#!/usr/bin/env bash
# nginx's cache does not count the Age that an answer came with, HAProxy's does not use it: both keep what is over.
#
# Version    nginx 1.22.1, HAProxy 2.6.12; Apache 2.4.71 and squid 5.7 beside (all Debian 12). RFC 9111, 4.2.3: the age of an answer counts from its Age; 5.1.
# Behaviour  An answer has max-age=10 and Age: 8, since a cache before has kept it for 8 s. Three seconds later nginx gives it out, still with Age: 8, and HAProxy with
#            Age: 12 or so, older than it may be. One that comes with Age: 20 is over when it arrives: nginx keeps it for ten seconds, and says Age: 20 all the time.
#            Of an answer without Age, nginx tells none. Apache and squid ask again.
# Guess      A cache subtracts Age, and adds its own time to it.
# Matters    Behind a CDN, or a second nginx, "for ten seconds" is up to twenty, three of them thirty; and clients of nginx keep for their ten seconds what was kept
#            for ten. Where it counts, say s-maxage for those in between and a small max-age.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
installed() { for tool in "$@"; do [ -x "/usr/sbin/$tool" ] || return 1; done; }
installed nginx haproxy apache2 squid ||
    apt-get install --quiet=2 --yes --no-install-recommends nginx-light haproxy apache2 squid >/dev/null 2>&1

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

asked = []


def answer(head):
    asked.append(1)
    age = {"/8": "Age: 8\r\n", "/20": "Age: 20\r\n"}.get(head.split()[1].decode(), "")
    return "Cache-Control: max-age=10\r\n" + age, "number %d" % len(asked)


back = serve(answer)
ports = {name: free() for name in ("nginx", "HAProxy", "Apache", "squid")}
servers = {
    "nginx": nginx(ports["nginx"], "", "proxy_cache_path %s/cache keys_zone=z:1m;" % HERE, "proxy_cache z; proxy_pass http://127.0.0.1:%d;" % back),
    "HAProxy": haproxy(ports["HAProxy"], "", "cache c\n total-max-size 4\n", " http-request cache-use c\n http-response cache-store c\n server s 127.0.0.1:%d\n" % back),
    "Apache": apache(ports["Apache"], "CacheEnable socache /\nCacheSocache shmcb\nProxyPass / http://127.0.0.1:%d/\n" % back, "cache", "cache_socache", "socache_shmcb"),
    "squid": squid(ports["squid"], "", back),
}


def get(port, path):
    head, body = exchange(port, b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
    return body, [line[5:] for line in head.split("\r\n") if line.lower().startswith("age: ")]


def ask():
    for name, port in ports.items():
        for path in b"/none", b"/8", b"/20":
            first, _ = get(port, path)
            time.sleep(3.1)
            then, age = get(port, path)
            if then != first:
                told = "asks again"
            elif not age:
                told = "gives it out, without Age"
            else:
                given = path[1:].decode()
                told = "gives it out, Age %s" % ("as it came" if age == [given] else "above 10" if int(age[0]) > 10 else "below 10")
            print("%-7s came with Age %-4s 3 s later: %s" % (name, path[1:].decode(), told))


run({name: (ports[name], command) for name, command in servers.items()}, ask)
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
nginx   came with Age none 3 s later: gives it out, without Age
nginx   came with Age 8    3 s later: gives it out, Age as it came
nginx   came with Age 20   3 s later: gives it out, Age as it came
HAProxy came with Age none 3 s later: gives it out, Age below 10
HAProxy came with Age 8    3 s later: gives it out, Age above 10
HAProxy came with Age 20   3 s later: asks again
Apache  came with Age none 3 s later: gives it out, Age below 10
Apache  came with Age 8    3 s later: asks again
Apache  came with Age 20   3 s later: asks again
squid   came with Age none 3 s later: gives it out, Age below 10
squid   came with Age 8    3 s later: asks again
squid   came with Age 20   3 s later: asks again
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
