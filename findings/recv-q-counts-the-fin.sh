#!/usr/bin/env bash
# ss shows one unread byte where there is nothing to read.
#
# Version    Linux 6.18 (net/ipv4/tcp_diag.c, tcp_diag_get_info, against tcp_inq in include/net/tcp.h), iproute2 6.1.
# Behaviour  A client shuts its sending side without having sent anything. The server's socket has Recv-Q 1 in ss and in
#            /proc/net/tcp; SIOCINQ (FIONREAD) on the same socket says 0.
# Guess      Recv-Q is what ss(8) and netstat(8) call it, "bytes not copied by the user program".
# Matters    An alarm on Recv-Q > 0 accuses a server of not reading for each idle client that half-closed. In
#            CLOSE-WAIT, take one off.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import array, fcntl, socket, subprocess, time

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, peer = listener.accept()
client.shutdown(socket.SHUT_WR)
time.sleep(0.2)
count = array.array("i", [0])
fcntl.ioctl(server, 0x541B, count)
print("SIOCINQ:", count[0])
line = subprocess.check_output(["ss", "-Htn", f"sport = :{server.getsockname()[1]} and dport = :{peer[1]}"], text=True)
state, received, sent = line.split()[:3]
print("ss:", state, "Recv-Q", received, "Send-Q", sent)
print("recv:", server.recv(9))
END
)

expected=$(cat <<'END'
SIOCINQ: 0
ss: CLOSE-WAIT Recv-Q 1 Send-Q 0
recv: b''
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
