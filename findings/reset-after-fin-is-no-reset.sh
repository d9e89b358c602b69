#!/usr/bin/env bash
# A TCP reset that comes behind a FIN is never ECONNRESET, and no read tells of it.
#
# Version    Linux 6.18 (net/ipv4/tcp_input.c, tcp_reset: EPIPE in CLOSE-WAIT; RFC 9293 3.10.7.4 says "connection reset"
#            for both states).
# Behaviour  The peer shuts its sending side, then resets the connection with our answer unread. SO_ERROR, or the first
#            write, says EPIPE; reads return 0 before and after. Without the FIN the first call says ECONNRESET,
#            whichever it is, and it alone: a read after that write returns 0 as well.
# Guess      ECONNRESET for a reset, whatever came before it, and reads that fail until the socket is closed.
# Matters    Half-closing clients (nc -N, health probes, HTTP/1.0 scripts) that go away look like one's own write after
#            shutdown. Counting ECONNRESET counts too little, and a read of 0 does not say that the answer arrived.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import errno, select, socket, struct

RESET = struct.pack("ii", 1, 0)


def attempt(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


def reset(fin_first):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    if fin_first:
        client.shutdown(socket.SHUT_WR)
        select.select([server], [], [], 5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    poll = select.poll()
    poll.register(server, 0)
    poll.poll(5000)
    return server


for name, fin_first in (("reset", False), ("FIN, reset", True)):
    server = reset(fin_first)
    print(f"{name}: SO_ERROR", errno.errorcode[server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
    server = reset(fin_first)
    print(f"{name}: write", attempt(lambda: server.send(b"x")), "read", attempt(lambda: server.recv(9)))
    server = reset(fin_first)
    print(f"{name}: read", attempt(lambda: server.recv(9)), "read", attempt(lambda: server.recv(9)),
          "write", attempt(lambda: server.send(b"x")))
END
)

expected=$(cat <<'END'
reset: SO_ERROR ECONNRESET
reset: write ECONNRESET read b''
reset: read ECONNRESET read b'' write EPIPE
FIN, reset: SO_ERROR EPIPE
FIN, reset: write EPIPE read b''
FIN, reset: read b'' read b'' write EPIPE
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
