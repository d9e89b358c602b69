#!/usr/bin/env bash
# MSG_PEEK with MSG_WAITALL waits on a TCP socket, and returns at once on a Unix stream.
#
# Version    Linux 6.18. recv(2) says of MSG_WAITALL: blocks until the full request is satisfied, but for a signal, an error, a
#            disconnect or data of another kind, and no effect for datagrams.
# Behaviour  3 bytes in the queue, 6 asked for, a time limit of 0.3 s. TCP: recv and peek both wait out the limit, and return 3. Unix stream:
#            recv waits, the peek returns 3 bytes at once. The three that come later end the wait of TCP's peek at 6.
# Guess      A peek waits as the read does of which it is the preview: that is what both flags together are for (a header of known length).
# Matters    A server that peeks at the first bytes to tell TLS, the PROXY protocol and HTTP apart works over TCP; behind a Unix socket it
#            sees halves of them, and spins if it peeks again until there is enough.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
seen=$(python3 - <<'END'
import socket, struct, threading, time


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return socket.create_connection(listener.getsockname()), listener.accept()[0]


for name, pair in ("TCP", tcp), ("Unix", socket.socketpair):
    for what, flags in ("recv", 0), ("peek", socket.MSG_PEEK):
        for later in b"", b"def":
            writer, reader = pair()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 1, 0))
            writer.send(b"abc")
            while len(reader.recv(9, socket.MSG_PEEK)) < 3:
                pass
            further = threading.Timer(0.3, writer.send, [later])
            further.start()
            began = time.monotonic()
            got = reader.recv(6, flags | socket.MSG_WAITALL)
            waited = time.monotonic() - began
            waited = "at once" if waited < 0.15 else "with the later bytes" if waited < 0.8 else "at its time limit"
            further.join()
            print("%-4s %s, %s: %d bytes %s" % (name, what, "3 more come" if later else "none come ", len(got), waited))
END
)

expected=$(cat <<'END'
TCP  recv, none come : 3 bytes at its time limit
TCP  recv, 3 more come: 6 bytes with the later bytes
TCP  peek, none come : 3 bytes at its time limit
TCP  peek, 3 more come: 6 bytes with the later bytes
Unix recv, none come : 3 bytes at its time limit
Unix recv, 3 more come: 6 bytes with the later bytes
Unix peek, none come : 3 bytes at once
Unix peek, 3 more come: 3 bytes at once
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
