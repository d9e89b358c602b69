#!/usr/bin/env bash
# splice(2) from a TCP socket never gets past an urgent byte.
#
# Version    Linux 6.18 (net/ipv4/tcp.c, __tcp_read_sock and tcp_recvmsg_locked; tcp(7), "urgent data").
# Behaviour  The peer sends three bytes, one with MSG_OOB, then six more. splice moves the first three. From then on it
#            says EAGAIN, while epoll reports EPOLLIN (and EPOLLPRI) without end. recv on the same socket steps over the
#            urgent byte and gets the six; after that splice works again.
# Guess      splice stops short at the mark once, as recv does, and goes on behind it with the next call.
# Matters    A proxy that moves bytes by splice and believes EAGAIN waits beside bytes that are there: for ever with
#            edges, at full speed without. Any client can do that to it with one byte. When splice says EAGAIN and
#            EPOLLPRI is set, one ordinary recv gets things going.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import errno, os, select, socket, time

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.send(b"abc")
client.send(b"!", socket.MSG_OOB)
client.send(b"behind")
time.sleep(0.2)

server.setblocking(False)
_, into = os.pipe()
epoll = select.epoll()
epoll.register(server, select.EPOLLIN | select.EPOLLPRI)


def attempt(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


splice = lambda: os.splice(server.fileno(), into, 4096)
for _ in range(3):
    print("splice:", attempt(splice), "epoll:", [hex(events) for _, events in epoll.poll(0)])
print("recv:", attempt(lambda: server.recv(4096)))
client.send(b"more")
time.sleep(0.2)
print("splice:", attempt(splice))
END
)

expected=$(cat <<'END'
splice: 3 epoll: ['0x3']
splice: EAGAIN epoll: ['0x3']
splice: EAGAIN epoll: ['0x3']
recv: b'behind'
splice: 4
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
