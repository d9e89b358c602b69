#!/usr/bin/env bash
# TCP_DEFER_ACCEPT hands over connections that never said a word, and a FIN is as good as data.
#
# Version    Linux 6.18. tcp(7): "allow a listener to be awakened only when data arrives on the socket".
# Behaviour  A client that connects and says nothing is not shown to accept for the time that was set, in steps of 1, 3, 7 seconds (set to
#            1: about 1 s; to 3: about 3 s), and is shown then, without a byte. One that only closes its side is shown at once.
# Guess      What never sends data is dropped when the time is over, so that accept needs no time limit for the first byte.
# Matters    The option saves a wake-up, and is no guard: a thousand silent clients arrive all the same, some seconds later and in one
#            burst. A server that reads right after accept, since "data is there", blocks.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
seen=$(python3 - <<'END'
import select, socket, time


def shown(listener, most):
    began = time.monotonic()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if not poll.poll(most * 1000):
        return "not within %d s" % most
    waited = time.monotonic() - began
    accepted = listener.accept()[0]
    accepted.setblocking(False)
    try:
        held = "%d bytes" % len(accepted.recv(9))
    except BlockingIOError:
        held = "nothing to read"
    return "%s, %s" % ("at once" if waited < 0.3 else "after about %d s" % round(waited), held)


for seconds in 1, 3:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)
        listener.listen()
        for what in "data", "a FIN", "silence":
            client = socket.create_connection(listener.getsockname())
            if what == "data":
                client.send(b"hello")
            if what == "a FIN":
                client.shutdown(socket.SHUT_WR)
            print("set to %d, %-7s shown %s" % (seconds, what, shown(listener, 12)))
END
)

expected=$(cat <<'END'
set to 1, data    shown at once, 5 bytes
set to 1, a FIN   shown at once, 0 bytes
set to 1, silence shown after about 1 s, nothing to read
set to 3, data    shown at once, 5 bytes
set to 3, a FIN   shown at once, 0 bytes
set to 3, silence shown after about 3 s, nothing to read
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
