#!/usr/bin/env bash
# socket.recv_fds of Python 3.11 takes flags and does not use them: a peek takes the message. send_fds forgets flags and address.
#
# Version    Python 3.11. Its documentation: recv_fds(sock, bufsize, maxfds[, flags]), send_fds(sock, buffers, fds[, flags[, address]]).
# Behaviour  recv_fds with MSG_PEEK, MSG_DONTWAIT or MSG_CMSG_CLOEXEC calls recvmsg without: the message is gone, or the call waits. send_fds with an
#            address on an unconnected datagram socket is ENOTCONN, where sendmsg with the same arguments works.
# Guess      Arguments that are documented are passed on.
# Matters    Descriptors are handed over at a restart, by a loop that must not wait. MSG_DONTWAIT makes it wait all the same, and a look ahead takes the
#            listener's descriptor away. sendmsg and recvmsg do what they are told.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 - <<'END' >/dev/null || python=python3.11
import sys
raise SystemExit(sys.version_info[:2] != (3, 11))
END
cat >asked.py <<'END'
import array, errno, os, socket, sys


def told(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)


ours, theirs = socket.socketpair()
read, write = os.pipe()
theirs.settimeout(0.5)
socket.send_fds(ours, [b"x"], [read])
print("recv_fds with MSG_PEEK: %s" % told(lambda: socket.recv_fds(theirs, 1, 1, socket.MSG_PEEK)[0]))
print("and then recvmsg: %s" % told(lambda: theirs.recvmsg(1, 64, socket.MSG_DONTWAIT)[0]))
path = "\0finding %d" % os.getpid()
server, client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(path)
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read]))]
print("send_fds to an address: %s" % told(lambda: socket.send_fds(client, [b"x"], [read], 0, path)))
print("sendmsg to an address: %s" % told(lambda: client.sendmsg([b"x"], rights, 0, path)))
END
seen=$("${python-python3}" asked.py)

expected=$(cat <<'END'
recv_fds with MSG_PEEK: b'x'
and then recvmsg: TimeoutError
send_fds to an address: ENOTCONN
sendmsg to an address: 1
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
