#!/usr/bin/env bash
# A pipe of 64 KiB is full at 32 KiB, or at 16 bytes, and poll and write disagree on which.
#
# Version    Linux 6.18 (fs/pipe.c, pipe_write; net/unix/af_unix.c and fs/splice.c; pipe(7) gives the capacity in
#            bytes).
# Behaviour  A pipe has 16 slots of a page. A write fills up the last slot only if all of the part beyond whole pages
#            fits there. So writes of 2,049 bytes get 16 times in, 32,784 bytes. Then poll reports no room, and a write
#            of one byte succeeds. splice from a socket takes a slot for each piece that arrived: after 16 messages of
#            one byte, the pipe of "65,536" takes nothing more, and splice says EAGAIN beside a readable socket.
# Guess      64 KiB go in, whatever the sizes of the parts, as F_GETPIPE_SZ says.
# Matters    A splice proxy must empty the pipe at EAGAIN before it waits for the socket, else two sides wait for each
#            other; a log pipe holds half of what was counted on.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import errno, fcntl, os, select, socket


def attempt(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


def until_full(call):
    total = 0
    while isinstance(moved := attempt(call), int):
        total += moved
    return f"{total} then {moved}"


out, into = os.pipe()
os.set_blocking(into, False)
print("capacity:", fcntl.fcntl(into, fcntl.F_GETPIPE_SZ))
print("writes of 2049:", until_full(lambda: os.write(into, bytes(2049))))
poll = select.poll()
poll.register(into, select.POLLOUT)
print("poll says room:", bool(poll.poll(0)), "write of one byte:", attempt(lambda: os.write(into, b"x")))

out, into = os.pipe()
ours, theirs = socket.socketpair()
for _ in range(20):
    theirs.send(b"x")
SPLICE_F_NONBLOCK = 2
print("splice of single bytes:", until_full(lambda: os.splice(ours.fileno(), into, 4096, flags=SPLICE_F_NONBLOCK)))
print("socket readable:", bool(select.select([ours], [], [], 0)[0]))
END
)

expected=$(cat <<'END'
capacity: 65536
writes of 2049: 32784 then EAGAIN
poll says room: False write of one byte: 1
splice of single bytes: 16 then EAGAIN
socket readable: True
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
