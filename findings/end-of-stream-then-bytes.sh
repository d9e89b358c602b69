#!/usr/bin/env bash
# After shutdown(SHUT_RD) a TCP socket reads 0, then bytes, then 0 again; a Unix socket ends for good.
#
# Version    Linux 6.18 (net/ipv4/tcp.c, tcp_recvmsg_locked looks at the queue before it looks at RCV_SHUTDOWN).
# Behaviour  A end shuts its reading side. recv gives 0. The peer sends: the call succeeds, and is acknowledged. recv gives
#            those bytes, then 0. On a Unix pair the peer's send fails with EPIPE and recv stays at 0.
# Guess      0 is the end of a stream, and what comes later is refused or thrown away (POSIX: "disables further receive
#            operations").
# Matters    shutdown(SHUT_RD) is used to stop a reader from another thread. On TCP the reader's next call can return data
#            after its end of stream, and the peer never learns that nobody reads. Close, or reset, to refuse input.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 30 bash "$0"

seen=$(python3 - <<'END'
import errno, select, socket

def told(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
for name, (reader, writer) in (("TCP", (client, server)), ("Unix", socket.socketpair())):
    reader.shutdown(socket.SHUT_RD)
    first = reader.recv(100)
    sent = told(writer.send, b"late")
    queue = select.poll()
    queue.register(reader, select.POLLIN)
    queue.poll(1000)
    print(f"{name}: recv {first}, send {sent}, recv {reader.recv(100)}, recv {reader.recv(100)}")
END
)

expected=$(cat <<'END'
TCP: recv b'', send 4, recv b'late', recv b''
Unix: recv b'', send EPIPE, recv b'', recv b''
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
