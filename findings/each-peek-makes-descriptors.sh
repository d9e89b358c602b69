#!/usr/bin/env bash
# Each peek at a message with descriptors puts new ones into the process; the message keeps its own.
#
# Version    Linux 6.18; Python 3. unix(7) and recv(2) do not say it.
# Behaviour  recvmsg with MSG_PEEK and room for control data installs a copy of every descriptor of the message, each time: three peeks and one receive
#            at a message with two make eight. Without room for control data a peek makes none and sets MSG_CTRUNC.
# Guess      A peek changes nothing, so it shows the bytes, and descriptors come with the receive.
# Matters    A protocol that peeks for the length of a message before it reads leaks the peer's descriptors, at a rate that the peer chooses. Peek
#            without a control buffer, or close what each peek brought.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >asked.py <<'END'
import array, os, socket


def open_now():
    return len(os.listdir("/proc/self/fd"))


for kind, name in (socket.SOCK_STREAM, "stream"), (socket.SOCK_DGRAM, "datagram"), (socket.SOCK_SEQPACKET, "seqpacket"):
    for room in 64, 0:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        pipe = os.pipe()
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pipe))])
        seen = [open_now()]
        for flags in [socket.MSG_PEEK] * 3 + [0]:
            theirs.recvmsg(1, room, flags)
            seen.append(open_now())
        made = [after - before for before, after in zip(seen, seen[1:])]
        print("%-9s room for control data %2d: new descriptors at three peeks and the receive: %s" % (name, room, made))
END
seen=$(python3 asked.py)

expected=$(cat <<'END'
stream    room for control data 64: new descriptors at three peeks and the receive: [2, 2, 2, 2]
stream    room for control data  0: new descriptors at three peeks and the receive: [0, 0, 0, 0]
datagram  room for control data 64: new descriptors at three peeks and the receive: [2, 2, 2, 2]
datagram  room for control data  0: new descriptors at three peeks and the receive: [0, 0, 0, 0]
seqpacket room for control data 64: new descriptors at three peeks and the receive: [2, 2, 2, 2]
seqpacket room for control data  0: new descriptors at three peeks and the receive: [0, 0, 0, 0]
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
