#!/usr/bin/env bash
# TCP keep-alive ends at 9.1 hours: a longer idle time is EINVAL, and so are more than 127 probes.
#
# Version    Linux 6.18 (include/net/tcp.h, MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT; tcp(7) names no limit).
# Behaviour  TCP_KEEPIDLE and TCP_KEEPINTVL take 32,767 seconds and refuse 32,768; TCP_KEEPCNT takes 127. What is refused
#            leaves the former value. TCP_USER_TIMEOUT, of the same family, takes every positive int.
# Guess      Seconds in an int, up to 2^31-1, as for the user timeout; too large a value would be cut to the largest.
# Matters    A setting "keepalive = 12h" or "1d", read from a file, fails at the first connection, with an error that names
#            neither option nor limit; where the error is ignored the default of two hours stays. Check settings at start.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"

seen=$(python3 - <<'END'
import errno, socket

def outcome(name, value):
    try:
        stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"

stream = socket.socket()
for name, most in (("TCP_KEEPIDLE", 32767), ("TCP_KEEPINTVL", 32767), ("TCP_KEEPCNT", 127)):
    at, above = outcome(name, most), outcome(name, most + 1)
    kept = stream.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
    print(f"{name}: {most} {at}, {most + 1} {above}, kept {kept}")
print("TCP_KEEPIDLE of a day:", outcome("TCP_KEEPIDLE", 86400))
print("TCP_USER_TIMEOUT of 24 days:", outcome("TCP_USER_TIMEOUT", 2**31 - 1))
END
)

expected=$(cat <<'END'
TCP_KEEPIDLE: 32767 ok, 32768 EINVAL, kept 32767
TCP_KEEPINTVL: 32767 ok, 32768 EINVAL, kept 32767
TCP_KEEPCNT: 127 ok, 128 EINVAL, kept 127
TCP_KEEPIDLE of a day: EINVAL
TCP_USER_TIMEOUT of 24 days: ok
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
