#!/usr/bin/env bash
# At the limit of descriptors accept says EMFILE though nobody waits, and poll says that nothing is there.
#
# Version    Linux 6.18, TCP and Unix listeners; Python 3.
# Behaviour  A non-blocking accept on an empty queue is EAGAIN, but EMFILE as soon as no descriptor is free: it takes the descriptor first and looks at
#            the queue then. poll says, rightly, that the listener is not ready.
# Guess      EAGAIN where nothing waits, whatever the limits; EMFILE where a connection could not be taken.
# Matters    The usual loop "accept until EAGAIN" ends with an error at each round in which the limit is reached exactly, with no connection lost.
#            Counted or logged as a refused client, or answered with a pause, it tells of a shortage that nobody felt. Ask poll which it was.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >asked.py <<'END'
import errno, os, resource, select, socket


def told(listener):
    try:
        return "taken" if listener.accept() else ""
    except OSError as error:
        return errno.errorcode[error.errno]


tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
unix.bind("\0finding %d" % os.getpid())
unix.listen()
client = socket.socket()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
highest = max(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name))
for kind, listener in ("TCP", tcp), ("Unix", unix):
    listener.setblocking(False)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    for room, limit in ("room", 256), ("no room", highest + 1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        print("%-4s nobody waits, %-7s accept: %-6s poll: %s" % (kind, room, told(listener), "ready" if poll.poll(0) else "not ready"))
client.connect(tcp.getsockname())
poll = select.poll()
poll.register(tcp, select.POLLIN)
print("TCP  somebody waits, no room: accept: %s poll: %s" % (told(tcp), "ready" if poll.poll(1000) else "not ready"))
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
TCP  nobody waits, room    accept: EAGAIN poll: not ready
TCP  nobody waits, no room accept: EMFILE poll: not ready
Unix nobody waits, room    accept: EAGAIN poll: not ready
Unix nobody waits, no room accept: EMFILE poll: not ready
TCP  somebody waits, no room: accept: EMFILE poll: ready
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
