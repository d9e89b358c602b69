#!/usr/bin/env bash
# SO_RCVTIMEO turns SA_RESTART off for one socket.
#
# Version    Linux 6.18 (include/net/sock.h, sock_intr_errno; signal(7), last list, says so in half a sentence).
# Behaviour  A handler is installed with SA_RESTART. A recv that waits goes on after the signal. A recv on a socket with
#            a receive timeout, however far off, ends with EINTR at the first signal.
# Guess      SA_RESTART decides alone, and the timeout only matters once it has passed.
# Matters    A profiler, a stall detector or any library that sends signals to threads makes "recv failed: Interrupted"
#            out of nothing, only on the connections that were given a timeout, and only in production.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import ctypes, errno, signal, socket, struct, threading

libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)  # SA_RESTART
for seconds in (0, 60):
    ours, theirs = socket.socketpair()
    if seconds:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    later = threading.Timer(0.6, theirs.send, [b"late"])
    later.start()
    got = libc.recv(ours.fileno(), ctypes.create_string_buffer(9), 9, 0)
    print("timeout", seconds, "s: recv", got if got >= 0 else errno.errorcode[ctypes.get_errno()])
    later.join()
END
)

expected=$(cat <<'END'
timeout 0 s: recv 4
timeout 60 s: recv EINTR
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
