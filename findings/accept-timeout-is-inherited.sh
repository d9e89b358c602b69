#!/usr/bin/env bash
# A receive timeout that bounds accept on a TCP listener bounds the reads of every connection as well; on a Unix one
# not.
#
# Version    Linux 6.18 (net/core/sock.c, sk_clone_lock copies the listener; net/unix/af_unix.c makes a new socket;
#            accept(2) and socket(7) name no option that is inherited).
# Behaviour  SO_RCVTIMEO, SO_LINGER and SO_KEEPALIVE are set on a listener. accept ends with EAGAIN after the timeout,
#            in both families. A connection accepted from the TCP listener has all three, so its reads end with EAGAIN
#            too. One from the Unix listener has none.
# Guess      A timeout belongs to the descriptor that it was set on, as O_NONBLOCK does, which is not inherited; if
#            anything is inherited, then in both families.
# Matters    "Wake accept now and then to look at a flag" gives all clients a read timeout of the same length, which
#            shows as lost connections of slow clients. A linger time set for the listener makes each close wait.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - "$work" <<'END'
import errno, os, socket, struct, sys

OPTIONS = {
    "SO_RCVTIMEO": (socket.SO_RCVTIMEO, struct.pack("ll", 0, 200_000)),
    "SO_LINGER": (socket.SO_LINGER, struct.pack("ii", 1, 7)),
    "SO_KEEPALIVE": (socket.SO_KEEPALIVE, struct.pack("i", 1)),
}


def attempt(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


for name, family, address in (
    ("tcp", socket.AF_INET, ("127.0.0.1", 0)),
    ("unix", socket.AF_UNIX, os.path.join(sys.argv[1], "socket")),
):
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    for option, value in OPTIONS.values():
        listener.setsockopt(socket.SOL_SOCKET, option, value)
    print(name, "accept with nobody there:", attempt(listener.accept))
    client = socket.socket(family)
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    had = [option for option, (number, value) in OPTIONS.items()
           if server.getsockopt(socket.SOL_SOCKET, number, len(value)) == value]
    print(name, "inherited:", *had or ["none"])
    if had:
        print(name, "recv with nothing there:", attempt(lambda: server.recv(9)))
END
)

expected=$(cat <<'END'
tcp accept with nobody there: EAGAIN
tcp inherited: SO_RCVTIMEO SO_LINGER SO_KEEPALIVE
tcp recv with nothing there: EAGAIN
unix accept with nobody there: EAGAIN
unix inherited: none
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
