#!/usr/bin/env bash
# shutdown() of an unconnected UDP socket fails with ENOTCONN, and shuts it all the same.
#
# Version    Linux 6.18. POSIX and shutdown(2) name ENOTCONN as an error, and do not say that anything has happened.
# Behaviour  SHUT_RD: ENOTCONN; from then on poll says readable for ever, a blocking recv returns 0 at once, like an empty datagram, and
#            a non-blocking one EAGAIN. Datagrams still come in. SHUT_WR: ENOTCONN; each sendto is EPIPE (and SIGPIPE) from then on.
# Guess      A call that fails changes nothing.
# Matters    Code that shuts every socket and passes ENOTCONN by has a socket that spins in an event loop: readable, and nothing to
#            read. In blocking code the same call wakes a reader on another thread, which takes it for an empty datagram.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"

seen=$(python3 - <<'END'
import errno, select, socket, struct

other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.bind(("127.0.0.1", 0))


def outcome(call, *arguments):
    try:
        return repr(call(*arguments))
    except OSError as error:
        return errno.errorcode[error.errno]


def socket_with_a_limit():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 5, 0))
    return made


def polled(of):
    poll = select.poll()
    poll.register(of, select.POLLIN | select.POLLOUT)
    return [name for name in ("POLLIN", "POLLOUT", "POLLERR", "POLLHUP") if poll.poll(0) and poll.poll(0)[0][1] & getattr(select, name)]


shut = socket_with_a_limit()
print("before:  poll", *polled(shut))
print("SHUT_RD:", outcome(shut.shutdown, socket.SHUT_RD))
print("  poll", *polled(shut))
print("  recv, blocking:", outcome(shut.recv, 10))
print("  recv, not blocking:", outcome(shut.recv, 10, socket.MSG_DONTWAIT))
other.sendto(b"datagram", shut.getsockname())
print("  a datagram: recv", outcome(shut.recv, 10), "then", outcome(shut.recv, 10))
print("  poll", *polled(shut))
shut = socket_with_a_limit()
print("SHUT_WR:", outcome(shut.shutdown, socket.SHUT_WR))
print("  poll", *polled(shut))
print("  sendto:", outcome(shut.sendto, b"x", other.getsockname()))
END
)

expected=$(cat <<'END'
before:  poll POLLOUT
SHUT_RD: ENOTCONN
  poll POLLIN POLLOUT
  recv, blocking: b''
  recv, not blocking: EAGAIN
  a datagram: recv b'datagram' then b''
  poll POLLIN POLLOUT
SHUT_WR: ENOTCONN
  poll POLLOUT
  sendto: EPIPE
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
