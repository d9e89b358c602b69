#!/usr/bin/env bash
# "host" beside ":authority" is 400 at nginx, though both say the same.
#
# Version    nginx 1.22.1, HAProxy 2.6.12 and nghttp 1.52.0 (Debian 12). RFC 9113, 8.3.1: a request may have both; a client must not send ones that
#            differ, and a server should treat that as malformed.
# Behaviour  nginx answers 400 to a request with ":authority: a.example" and "host: a.example", and 200 to either alone. HAProxy and Node 20 take both.
# Guess      Equal values are no conflict.
# Matters    A proxy that turns HTTP/1.1 into HTTP/2 and hands the fields on as they are adds ":authority" and keeps "host". It works with most
#            servers; in front of nginx each request is 400, without a line that says why at the usual level of its log.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for tool in nginx haproxy nghttp; do
    which $tool >/dev/null || missing=1
done
[ -z "${missing-}" ] || apt-get install --quiet=2 --yes --no-install-recommends nginx-light haproxy nghttp2-client >/dev/null 2>&1

free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_open() { until (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.05; done; }
told() { sed -n 's/.*:status: /status /p; s/.*recv GOAWAY.*/GOAWAY/p; s/.*error_code=\(PROT[A-Z_]*\).*/with \1/p' | tr '\n' ' ' | sed 's/ *$//'; }

port=$(free)
cat >nginx.conf <<END
daemon off; master_process off; error_log stderr crit; pid $work/nginx.pid; events {}
http {
    access_log off; client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
    server { listen 127.0.0.1:$port http2; location / { return 200 hello; } }
}
END
nginx -c "$work/nginx.conf" &
trap 'kill %1; rm -rf "$work"' EXIT
until_open "$port"

cat >node.js <<'END'
const server = require("http2").createServer((request, response) => response.end("hello"));
server.listen(0, "127.0.0.1", () => require("fs").writeFileSync("port", String(server.address().port)));
END
node node.js &
proxy=$(free)
cat >haproxy.cfg <<END
defaults
  mode http
  timeout client 5s
frontend front
  bind 127.0.0.1:$proxy proto h2
  http-request return status 200 content-type text/plain string hello
END
haproxy -db -f haproxy.cfg 2>/dev/null &
trap 'kill %1 %2 %3; rm -rf "$work"' EXIT
until_open "$proxy"
until [ -s port ]; do sleep 0.05; done

cat >asked.sh <<'END'
nghttp -nv "$@" | grep -oE ':status: [0-9]+'
END
seen=$(for server in "nginx $port" "HAProxy $proxy" "Node $(cat port)"; do
    url=http://127.0.0.1:${server##* }/
    printf '%-8s :authority %s; both, equal %s\n' "${server%% *}" "$(bash asked.sh -H ':authority: a.example' "$url")" \
        "$(bash asked.sh -H ':authority: a.example' -H 'host: a.example' "$url")"
done)

expected=$(cat <<'END'
nginx    :authority :status: 200; both, equal :status: 400
HAProxy  :authority :status: 200; both, equal :status: 200
Node     :authority :status: 200; both, equal :status: 200
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
