#!/usr/bin/env bash
# A server that refuses the connection is 503 through squid and 500 through tinyproxy, never 502.
#
# Version    squid 5.7 and tinyproxy 1.11.1 (Debian 12).
# Behaviour  Asked for a port at which nobody listens, squid answers 503 Service Unavailable, tinyproxy "500 Unable to connect": to a GET
#            of a whole URL and to CONNECT alike. Neither sends Retry-After.
# Guess      502 Bad Gateway, which RFC 9110, 15.6.3, has for a proxy whose server gave no valid answer; nginx, HAProxy and Envoy as
#            gateways choose between 502, 503 and 504 by what failed.
# Matters    A client that takes 503 for "come again soon", or 500 for a bug of the service, repeats or reports the wrong thing: it was the
#            proxy that spoke, and the service has seen nothing. Through CONNECT that is known for certain, so such a call may be made
#            again, whatever its method; of a GET by the whole URL only `X-Squid-Error` tells who has answered.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
{ [ -x /usr/sbin/squid ] && which tinyproxy >/dev/null; } ||
    apt-get install --quiet=2 --yes --no-install-recommends squid tinyproxy >/dev/null 2>&1

cat >asked.py <<'END'
import os, socket, subprocess, time


def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
    raise SystemExit("it does not listen")


def answer(port, request):
    with socket.create_connection(("127.0.0.1", port), 30) as stream:
        stream.sendall(request.encode())
        got = b""
        while b"\r\n\r\n" not in got:
            part = stream.recv(65536)
            if not part:
                break
            got += part
    lines = got.split(b"\r\n\r\n")[0].decode().split("\r\n")
    told = [line.split(",")[0] for line in lines[1:] if line.lower().startswith(("x-squid-error", "retry-after"))]
    return "; ".join([lines[0].split(" ", 1)[1]] + told)


def squid(port):
    with open("squid.conf", "w") as conf:
        conf.write("http_port 127.0.0.1:%d\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n"
                   "pid_filename none\nshutdown_lifetime 0 seconds\npinger_enable off\n" % port)
    return ["/usr/sbin/squid", "-N", "-f", os.getcwd() + "/squid.conf"]


def tinyproxy(port):
    with open("tinyproxy.conf", "w") as conf:
        conf.write("Port %d\nListen 127.0.0.1\nTimeout 60\nMaxClients 10\nAllow 127.0.0.1\n" % port)
    return ["tinyproxy", "-d", "-c", os.getcwd() + "/tinyproxy.conf"]


for start in (squid, tinyproxy):
    port, nobody = free(), free()
    proxy = subprocess.Popen(start(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        host = "127.0.0.1:%d" % nobody
        for asked, target in (("GET", "http://%s/" % host), ("CONNECT", host)):
            print(start.__name__, asked, "->", answer(port, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (asked, target, host)))
    finally:
        proxy.kill()
        proxy.wait()
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
squid GET -> 503 Service Unavailable; X-Squid-Error: ERR_CONNECT_FAIL 111
squid CONNECT -> 503 Service Unavailable; X-Squid-Error: ERR_CONNECT_FAIL 111
tinyproxy GET -> 500 Unable to connect
tinyproxy CONNECT -> 500 Unable to connect
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
