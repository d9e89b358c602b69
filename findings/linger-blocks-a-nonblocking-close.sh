#!/usr/bin/env bash
# close(2) of a non-blocking socket waits, if SO_LINGER says so, and nothing tells of what it lost.
#
# Version    Linux 6.18 (net/ipv4/af_inet.c, inet_release; socket(7), SO_LINGER).
# Behaviour  A socket in O_NONBLOCK with unsent bytes and a linger time of one second is closed. The call takes that
#            second and returns 0, though the bytes have not left. shutdown(2) returns at once.
# Guess      O_NONBLOCK makes close return at once, whatever the linger time, as UNIX Network Programming (7.5) teaches.
# Matters    In an event loop, dropping one connection stops all others for the linger time, and the return value reads
#            like success. Set the linger time to 0 or off before the close, or close on a thread of its own.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import os, socket, struct, time

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.setblocking(False)
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
try:
    while True:
        client.send(bytes(65536))
except BlockingIOError:
    pass
began = time.monotonic()
client.shutdown(socket.SHUT_WR)
print("shutdown waits:", time.monotonic() - began > 0.9)
began = time.monotonic()
result = os.close(client.detach())  # would raise if it failed
print("close waits:", 0.9 < time.monotonic() - began, "result:", result)
END
)

expected=$(cat <<'END'
shutdown waits: False
close waits: True result: None
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
