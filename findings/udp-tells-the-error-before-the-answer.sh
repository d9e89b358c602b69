#!/usr/bin/env bash
# A UDP answer that has arrived is behind an error that came later, and a datagram sent after an error is not sent.
#
# Version    Linux 6.18 (net/ipv4/udp.c, __skb_recv_udp looks at the socket's error before its queue; so does the allocation for a send).
# Behaviour  A connected socket asks twice. The server answers the first and closes; the second brings an ICMP error. recv is ECONNREFUSED first, and gives the
#            answer, which had come before it, at the next call. A TCP socket gives what has come, then the error. send says ECONNREFUSED for
#            the datagram before, and does not send its own, though somebody listens again.
# Guess      First come, first told. And a send that tells of an older failure has done its own work.
# Matters    A resolver, a QUIC or statsd client that gives up at the first error throws away an answer that is in its socket. One that takes the error
#            of a send for one of that datagram loses the first after each restart of its server: read on, and send once more.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >asked.py <<'END'
import errno, select, socket


def told(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def wait_for_error(stream):
    poll = select.poll()
    poll.register(stream, 0)
    assert poll.poll(5000)[0][1] & select.POLLERR


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
where = server.getsockname()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(1)
client.connect(where)
client.send(b"first")
server.sendto(b"answer", server.recvfrom(100)[1])
server.close()
client.send(b"second")
wait_for_error(client)
print("UDP: recv", told(client.recv, 100), "then", told(client.recv, 100))

client.send(b"third")
wait_for_error(client)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(where)
server.settimeout(1)
print("UDP: send", told(client.send, b"fourth"), "then", told(client.send, b"fifth"))
print("UDP: the server gets", server.recv(100))

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
server.send(b"answer")
server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
server.close()
wait_for_error(client)
print("TCP: recv", told(client.recv, 100), "then", told(client.recv, 100))
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
UDP: recv ECONNREFUSED then b'answer'
UDP: send ECONNREFUSED then 5
UDP: the server gets b'fifth'
TCP: recv b'answer' then ECONNRESET
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
