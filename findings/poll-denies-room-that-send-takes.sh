#!/usr/bin/env bash
# epoll withholds EPOLLOUT on TCP while send would take hundreds of kilobytes.
#
# Version    Linux 6.18 (include/net/sock.h, sk_stream_is_writeable; include/net/tcp.h, __tcp_stream_memory_free; tcp(7)
#            and epoll(7) are silent).
# Behaviour  A sender fills its buffer, and the peer reads 256 KiB. epoll says nothing, though a send now takes far more
#            than a page. EPOLLOUT comes once a third of the buffer is free: free space must be half of what is queued.
#            With TCP_NOTSENT_LOWAT, send accepts up to the limit of unsent bytes, and epoll waits for half of it.
# Guess      "Writable" means that a write would succeed. With TCP_NOTSENT_LOWAT, epoll reports at the limit that was
#            set.
# Matters    A peer that reads steadily but slowly leaves its writer without an event for as long as a third of several
#            megabytes takes, so "no EPOLLOUT for 20 s" is no proof of a dead peer: ask SIOCOUTQ what it acknowledged. A
#            latency budget put into TCP_NOTSENT_LOWAT is refilled at half of it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import array, fcntl, select, socket, time

TCP_NOTSENT_LOWAT, SIOCOUTQNSD = 25, 0x894B


def filled(lowat=None):
    listener = socket.create_server(("127.0.0.1", 0))
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    reader.connect(listener.getsockname())
    writer, _ = listener.accept()
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
    if lowat:
        writer.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, lowat)
    writer.setblocking(False)
    room = 0.0
    while room < 0.2:  # until it stays full
        try:
            writer.send(bytes(4096))
            room = 0.0
        except BlockingIOError:
            time.sleep(0.02)
            room += 0.02
    epoll = select.epoll()
    epoll.register(writer, select.EPOLLOUT)
    return reader, writer, epoll


def take(reader, count):
    while count:
        count -= len(reader.recv(min(count, 4096)))


reader, writer, epoll = filled()
take(reader, 256 << 10)
quiet = not epoll.poll(0.2)
print("buffer full, peer read 256 KiB: epoll silent", quiet, "send of 64 KiB taken", writer.send(bytes(64 << 10)) == 64 << 10)


def unsent(writer):
    count = array.array("i", [0])
    fcntl.ioctl(writer, SIOCOUTQNSD, count)
    return count[0]


LIMIT = 256 << 10
reader, writer, epoll = filled(LIMIT)
while unsent(writer) > LIMIT * 7 // 8:
    take(reader, 4096)
    time.sleep(0.002)
quiet = not epoll.poll(0.1)
print("unsent below the limit: epoll silent", quiet and unsent(writer) < LIMIT, "send taken", writer.send(b"x") == 1)
while not epoll.poll(0.02):
    take(reader, 4096)
print("EPOLLOUT: unsent below half of the limit", unsent(writer) < LIMIT // 2)
END
)

expected=$(cat <<'END'
buffer full, peer read 256 KiB: epoll silent True send of 64 KiB taken True
unsent below the limit: epoll silent True send taken True
EPOLLOUT: unsent below half of the limit True
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
