#!/usr/bin/env bash
# A padded DATA frame of a request ends the whole connection at HAProxy 2.6, with PROTOCOL_ERROR.
#
# Version    HAProxy 2.6.12 and nghttp 1.52.0 (Debian 12). RFC 9113, 6.1: DATA may have up to 255 bytes of padding, which a receiver must skip.
# Behaviour  A body that nghttp sends without padding is answered. With padding (nghttp --padding=16) HAProxy sends GOAWAY with
#            PROTOCOL_ERROR, and all streams of the connection end. Padded HEADERS are fine.
# Guess      HAProxy has had HTTP/2 since 1.8 and is in front of half the world: padding is skipped.
# Matters    A client that pads against traffic analysis works with most servers, and fails at uploads through this proxy, together with the
#            requests beside. Only bodies fail: a test with GET shows nothing.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for tool in haproxy nghttp; do
    which $tool >/dev/null || missing=1
done
[ -z "${missing-}" ] || apt-get install --quiet=2 --yes --no-install-recommends haproxy nghttp2-client >/dev/null 2>&1

free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_open() { until (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.05; done; }
told() { sed -n 's/.*:status: /status /p; s/.*recv GOAWAY.*/GOAWAY/p; s/.*error_code=\(PROT[A-Z_]*\).*/with \1/p' | tr '\n' ' ' | sed 's/ *$//'; }

port=$(free)
cat >haproxy.cfg <<END
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:$port proto h2
  http-request wait-for-body time 2s
  http-request return status 200 content-type text/plain string hello
END
haproxy -db -f haproxy.cfg 2>/dev/null &
trap 'kill %1; rm -rf "$work"' EXIT
until_open "$port"

head -c 3000 /dev/zero >body
seen=$(for padding in 0 16 255; do
    printf 'padding %3d: GET %s; POST %s\n' $padding \
        "$(timeout 5 nghttp -nv --padding=$padding "http://127.0.0.1:$port/" | told)" \
        "$(timeout 5 nghttp -nv --padding=$padding --data=body "http://127.0.0.1:$port/" | told)"
done)

expected=$(cat <<'END'
padding   0: GET status 200; POST status 200
padding  16: GET status 200; POST GOAWAY with PROTOCOL_ERROR
padding 255: GET status 200; POST GOAWAY with PROTOCOL_ERROR
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
