#!/usr/bin/env bash
# nginx takes a tab beside a field value for a part of the value, and answers 400 if the field is Host.
#
# Version    nginx 1.22.1 (Debian 12, 1.22.1-9+deb12u11). RFC 9112 5 and 5.1: the whitespace around a value (OWS) is
#            spaces and tabs, and is no part of it.
# Behaviour  "Host:<tab>a" is answered with 400. "X:<tab>v<tab>" is passed on to the backend as it is, where "X:  v  "
#            has become "X: v".
# Guess      Tabs and spaces are trimmed alike, as Go, Node and h11 do.
# Matters    Hand-made clients that align values with tabs meet a 400 in production only. A server behind nginx trims
#            both ends of what it gets itself, and must not take the proxy's word for it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
apt-get -o APT::Sandbox::User=root download -qq nginx=1.22.1-9+deb12u11 >/dev/null
dpkg-deb -x nginx_*.deb "$work/root"
mkdir "$work/temporary"
seen=$(python3 - "$work" <<'END'
import os, socket, subprocess, sys, threading, time

work = sys.argv[1]
backend = socket.create_server(("127.0.0.1", 0))
passed = []


def serve():
    while True:
        connection, _ = backend.accept()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(65536)
        passed.extend(line for line in head.split(b"\r\n") if line.startswith(b"X:"))
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        connection.close()


threading.Thread(target=serve, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
temporary = "".join(f"{kind}_temp_path {work}/temporary/{kind};" for kind in kinds)
with open(f"{work}/nginx.conf", "w") as config:
    config.write(f"""daemon off; master_process off; pid {work}/pid; error_log {work}/errors; events {{}}
http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};
location / {{ proxy_pass http://127.0.0.1:{backend.getsockname()[1]}; }} }} }}""")
nginx = subprocess.Popen([f"{work}/root/usr/sbin/nginx", "-p", work, "-e", f"{work}/errors", "-c", f"{work}/nginx.conf"])


def ask(fields):
    for _ in range(100):
        try:
            client = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    client.settimeout(10)
    client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n" + fields + b"\r\n")
    status = client.recv(4096)[9:12].decode()
    return status, [line.decode() for line in passed]


try:
    for fields in (b"Host:  a  \r\nX:  v  \r\n", b"Host:\ta\r\n", b"Host: a\r\nX:\tv\t\r\n"):
        passed.clear()
        status, lines = ask(fields)
        print(repr(fields.decode()), status, *map(repr, lines))
finally:
    nginx.kill()
    nginx.wait()
END
)

expected=$(cat <<'END'
'Host:  a  \r\nX:  v  \r\n' 204 'X: v'
'Host:\ta\r\n' 400
'Host: a\r\nX:\tv\t\r\n' 204 'X: \tv\t'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
