#!/usr/bin/env bash
# SIOCOUTQ of a Unix socket counts the kernel's memory, not bytes: one byte is 768.
#
# Version    Linux 6.18 (net/unix/af_unix.c, unix_outq_len; unix(7) tells of SIOCINQ alone, tcp(7) of SIOCOUTQ in bytes).
# Behaviour  One byte is sent over a socket pair and not read. SIOCINQ of the receiver is 1, SIOCOUTQ of the sender 768. A
#            second message of 100 bytes: 101 and 1,536 for streams. Over TCP the number is that of bytes not acknowledged.
# Guess      The same request is the same number on all stream sockets: bytes that the other side has not taken.
# Matters    "Has the peer read it all" works as "is it 0", but a threshold in bytes, or a rate of two readings, is wrong
#            by up to 768 times where a service moves from TCP to a Unix socket.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"

seen=$(python3 - <<'END'
import fcntl, socket, struct, termios

def queued(end, request):
    return struct.unpack("i", fcntl.ioctl(end, request, bytes(4)))[0]

for name in ("SOCK_STREAM", "SOCK_SEQPACKET"):
    sender, receiver = socket.socketpair(socket.AF_UNIX, getattr(socket, name))
    for size in (1, 100):
        sender.send(bytes(size))
        out, waiting = queued(sender, termios.TIOCOUTQ), queued(receiver, termios.FIONREAD)
        print(f"{name} after {size} more: SIOCOUTQ in bytes: {out == waiting}, at least 700 a message: {out >= 700}, SIOCINQ {waiting}")
    while queued(receiver, termios.FIONREAD):
        receiver.recv(1000)
    print(f"{name} when all is read: SIOCOUTQ {queued(sender, termios.TIOCOUTQ)}")
END
)

expected=$(cat <<'END'
SOCK_STREAM after 1 more: SIOCOUTQ in bytes: False, at least 700 a message: True, SIOCINQ 1
SOCK_STREAM after 100 more: SIOCOUTQ in bytes: False, at least 700 a message: True, SIOCINQ 101
SOCK_STREAM when all is read: SIOCOUTQ 0
SOCK_SEQPACKET after 1 more: SIOCOUTQ in bytes: False, at least 700 a message: True, SIOCINQ 1
SOCK_SEQPACKET after 100 more: SIOCOUTQ in bytes: False, at least 700 a message: True, SIOCINQ 101
SOCK_SEQPACKET when all is read: SIOCOUTQ 0
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
