#!/usr/bin/env bash
# shutdown and listen on a socket that was bound to port 0 move it to another port.
#
# Version    Linux 6.18 (net/ipv4/tcp.c, tcp_disconnect and tcp_set_state: the port goes back unless SOCK_BINDPORT_LOCK,
#            which bind sets for a port that was named; shutdown(2) and bind(2) do not mention it).
# Behaviour  A listener is shut down for reading, which makes it deaf, and then told to listen again: both calls
#            succeed. If bind named the port it has that port again. If bind asked for any port (0), getsockname still
#            gives the old one after the shutdown, and from listen on another.
# Guess      A bound socket stays bound where getsockname says until it is closed.
# Matters    "Pause accepting" by shutdown and listen works in production and moves the server away in every test that
#            uses port 0, and wherever the port was registered elsewhere at the start.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import socket


def again(port):
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    first = listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RD)
    between = listener.getsockname()[1]
    listener.listen()
    return first, between == first, listener.getsockname()[1] == first


port, *same = again(0)
print("any port: same after shutdown, after listen", *same)
print("named port: same after shutdown, after listen", *again(port)[1:])
END
)

expected=$(cat <<'END'
any port: same after shutdown, after listen True False
named port: same after shutdown, after listen True True
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
