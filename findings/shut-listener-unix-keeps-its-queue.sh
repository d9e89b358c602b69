#!/usr/bin/env bash
# shutdown of a listening Unix socket keeps its queue; of a TCP one it resets the queue.
#
# Version    Linux 6.18 (net/unix/af_unix.c, unix_shutdown, unix_accept; net/ipv4/af_inet.c, inet_shutdown; shutdown(2)
#            and accept(2) tell of neither).
# Behaviour  One client has connected and sent bytes, and was not accepted. After shutdown(SHUT_RD) on the listener, new
#            clients are refused in both families. TCP resets the one that waits, and accept says EINVAL. A Unix
#            listener still hands it out, bytes and all; after that a blocking accept says EINVAL, a non-blocking one
#            EAGAIN, and epoll reports EPOLLIN for ever.
# Guess      The same in both: EINVAL, and the queue is lost.
# Matters    For Unix sockets it is a graceful end in one call: shut down, accept what is there, close, and nobody is
#            lost. But a reactor has to count EAGAIN as the end then, or it spins on EPOLLIN.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - "$work" <<'END'
import errno, os, select, socket, sys, time


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
    address = listener.getsockname()
    waiting, late = socket.socket(family), socket.socket(family)
    waiting.connect(address)
    waiting.send(b"request")
    time.sleep(0.1)
    listener.shutdown(socket.SHUT_RD)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    print(name, "new client:", attempt(lambda: late.connect(address)))
    print(name, "accept:", attempt(lambda: listener.accept()[0].recv(9)), "again:", attempt(listener.accept),
          "epoll:", [hex(events) for _, events in epoll.poll(0)])
    listener.setblocking(True)
    print(name, "blocking accept:", attempt(listener.accept))
END
)

expected=$(cat <<'END'
tcp new client: ECONNREFUSED
tcp accept: EINVAL again: EINVAL epoll: ['0x10']
tcp blocking accept: EINVAL
unix new client: ECONNREFUSED
unix accept: b'request' again: EAGAIN epoll: ['0x1']
unix blocking accept: EINVAL
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
