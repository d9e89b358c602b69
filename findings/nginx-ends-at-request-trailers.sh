#!/usr/bin/env bash
# A request with trailers ends the whole HTTP/2 connection at nginx, with PROTOCOL_ERROR.
#
# Version    nginx 1.22.1 and nghttp 1.52.0 (Debian 12). RFC 9113, 8.1: a request is HEADERS, DATA and optionally HEADERS again, the trailers.
# Behaviour  A body without trailers is answered. With them nginx sends GOAWAY with PROTOCOL_ERROR, before the answer, and every other stream of the
#            connection ends with it. In HTTP/1.1 the same trailers behind a chunked body are skipped, and the request answered.
# Guess      A server that has no use for trailers skips them, as it may (RFC 9110, 6.5.1) and as it does in HTTP/1.1.
# Matters    Signatures and digests of streamed uploads (Content-Digest, AWS's trailing checksums) travel as trailers. One such upload takes the
#            requests beside it along; a client that multiplexes cannot know which one was to blame.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for tool in nginx nghttp; do
    which $tool >/dev/null || missing=1
done
[ -z "${missing-}" ] || apt-get install --quiet=2 --yes --no-install-recommends nginx-light nghttp2-client >/dev/null 2>&1

free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_open() { until (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.05; done; }
told() { sed -n 's/.*:status: /status /p; s/.*recv GOAWAY.*/GOAWAY/p; s/.*error_code=\(PROT[A-Z_]*\).*/with \1/p' | tr '\n' ' ' | sed 's/ *$//'; }

port=$(free)
plain=$(free)
cat >nginx.conf <<END
daemon off; master_process off; error_log stderr crit; pid $work/nginx.pid; events {}
http {
    access_log off; client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
    server { listen 127.0.0.1:$port http2; location / { proxy_pass http://127.0.0.1:$plain/last; } }
    server { listen 127.0.0.1:$plain; location / { proxy_pass http://127.0.0.1:$plain/last; } location /last { return 200 hello; } }
}
END
nginx -c "$work/nginx.conf" &
trap 'kill %1; rm -rf "$work"' EXIT
until_open "$plain"

printf hello >data
seen=$(
    echo "HTTP/2: $(timeout 5 nghttp -nv --data=data "http://127.0.0.1:$port/" | told)"
    echo "HTTP/2 with trailers: $(timeout 5 nghttp -nv --data=data --trailer='x-digest: 1' "http://127.0.0.1:$port/" | told)"
    exec 3<>"/dev/tcp/127.0.0.1/$plain"
    printf 'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Digest: 1\r\n\r\n' >&3
    echo "HTTP/1.1 with trailers: $(head -1 <&3 | tr -d '\r')"
)

expected=$(cat <<'END'
HTTP/2: status 200
HTTP/2 with trailers: GOAWAY with PROTOCOL_ERROR
HTTP/1.1 with trailers: HTTP/1.1 200 OK
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
