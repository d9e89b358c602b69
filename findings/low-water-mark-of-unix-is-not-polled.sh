#!/usr/bin/env bash
# SO_RCVLOWAT holds a blocking recv of a Unix stream back, and neither poll nor epoll.
#
# Version    Linux 6.18. socket(7) says of SO_RCVLOWAT that poll and epoll heed the mark since 2.6.28, and names no family.
# Behaviour  Mark 10, 3 bytes in the queue. TCP: recv waits, poll says nothing. Unix stream: recv waits just as long, poll says readable.
#            UDP and Unix datagrams: the mark is taken and kept, and binds neither.
# Guess      As the page says: one rule for all; or an error from setsockopt where it does nothing.
# Matters    A reader that sets the mark to save wake-ups (wait for a whole header) gets none of it on a Unix socket, and a program
#            that polls and then reads, blocking, stands still in the read that poll had promised.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"

seen=$(python3 - <<'END'
import select, socket, struct, time


def tcp(kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return socket.create_connection(listener.getsockname()), listener.accept()[0]


def udp(kind):
    reader = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    reader.bind(("127.0.0.1", 0))
    writer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    writer.connect(reader.getsockname())
    return writer, reader


def unix(kind):
    return socket.socketpair(socket.AF_UNIX, kind)


for name, pair, kind in (
    ("TCP", tcp, None),
    ("Unix stream", unix, socket.SOCK_STREAM),
    ("UDP", udp, None),
    ("Unix datagram", unix, socket.SOCK_DGRAM),
):
    writer, reader = pair(kind)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 10)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, 300_000))
    writer.send(b"abc")
    while not reader.recv(3, socket.MSG_PEEK | socket.MSG_DONTWAIT):
        pass
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    polled, epolled = (bool(of.poll(0)) for of in (poll, epoll))
    began = time.monotonic()
    got = reader.recv(100)
    waited = "waits to its time limit" if time.monotonic() - began > 0.2 else "at once"
    mark = reader.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
    print("%-14s mark %d, poll %-5s epoll %-5s recv %d bytes, %s" % (name, mark, polled, epolled, len(got), waited))
END
)

expected=$(cat <<'END'
TCP            mark 10, poll False epoll False recv 3 bytes, waits to its time limit
Unix stream    mark 10, poll True  epoll True  recv 3 bytes, waits to its time limit
UDP            mark 10, poll True  epoll True  recv 3 bytes, at once
Unix datagram  mark 10, poll True  epoll True  recv 3 bytes, at once
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
