#!/usr/bin/env bash
# A packet filter on a listening socket works on connections that do not exist yet, and is inherited by each accepted
# one.
#
# Version    Linux 6.18 (net/ipv4/tcp_ipv4.c, tcp_v4_rcv and tcp_filter; net/core/sock.c, sk_clone_lock; socket(7),
#            SO_ATTACH_FILTER, does not tell what it means for a listener).
# Behaviour  A filter that drops every SYN without ACK is set on a listener. A connection that waits to be accepted is
#            still accepted. One whose SYN came before, and whose last ACK comes after, still completes. A new connect
#            gets no answer, neither SYN-ACK nor reset. A connection accepted later carries a copy: SO_DETACH_FILTER
#            works on it, while on one that began before the filter it fails with ENOENT.
# Guess      A filter on a listener has nothing to filter, since no data come on it; and sockets begin without filters.
# Matters    It is the one way to stop a listener without resetting who is in the queue: filter, accept until empty,
#            close. And who filters a listener for another reason goes on filtering all connections that it gave.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import ctypes, errno, select, socket, struct, time

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
LOAD_BYTE, AND, EQUALS, RETURN = 0x30, 0x54, 0x15, 0x06


def attach(sock, *instructions):
    program = b"".join(struct.pack("HBBI", *one) for one in instructions)
    memory = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(instructions), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)


def detach(sock):
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        return "detached"
    except OSError as error:
        return errno.errorcode[error.errno]


listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(5)
address = listener.getsockname()

queued = socket.create_connection(address)
halfway = socket.socket()  # deaf to the SYN-ACK, until it may hear the second one
attach(halfway, (RETURN, 0, 0, 0))
halfway.setblocking(False)
halfway.connect_ex(address)
time.sleep(0.2)

# Byte 13 of the TCP header has the flags: drop if SYN is set and ACK is not.
attach(listener, (LOAD_BYTE, 0, 0, 13), (AND, 0, 0, 0x12), (EQUALS, 0, 1, 0x02),
       (RETURN, 0, 0, 0), (RETURN, 0, 0, 0xFFFFFFFF))
new = socket.socket()
new.settimeout(0.5)
try:
    new.connect(address)
    print("new: connected")
except TimeoutError:
    print("new: no answer")

accepted, peer = listener.accept()
print("queued: accepted", peer == queued.getsockname(), "filter:", detach(accepted))
detach(halfway)
accepted, peer = listener.accept()
print("halfway: accepted", peer == halfway.getsockname(), "filter:", detach(accepted))
END
)

expected=$(cat <<'END'
new: no answer
queued: accepted True filter: ENOENT
halfway: accepted True filter: detached
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
