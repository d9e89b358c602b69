#!/usr/bin/env bash
# Which call hears of a reset depends on the kind of Unix socket.
#
# Version    Linux 6.18 (net/unix/af_unix.c: unix_stream_sendmsg, unix_dgram_sendmsg; unix(7) tells of neither).
# Behaviour  The peer closes while bytes of ours lie unread. The kernel notes one ECONNRESET. On SOCK_STREAM a send says
#            EPIPE and leaves the note to the next recv. On SOCK_SEQPACKET a send takes the note itself, and every recv
#            after it returns 0: a clean end.
# Guess      The two differ in message boundaries only, so the errors are the same.
# Matters    A protocol that was moved from one to the other, with one thread that writes and one that reads, turns "the
#            peer died with our request unread" into "the peer said goodbye". Remember the error of whoever gets it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import errno, socket


def attempt(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


for kind in ("STREAM", "SEQPACKET"):
    ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, "SOCK_" + kind))
    ours.send(b"unread")
    theirs.close()
    print(kind, "send:", attempt(lambda: ours.send(b"more", socket.MSG_NOSIGNAL)),
          "recv:", attempt(lambda: ours.recv(9)), "recv:", attempt(lambda: ours.recv(9)))
END
)

expected=$(cat <<'END'
STREAM send: EPIPE recv: ECONNRESET recv: b''
SEQPACKET send: ECONNRESET recv: b'' recv: b''
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
