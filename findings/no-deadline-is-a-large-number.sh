#!/usr/bin/env bash
# A grpcio handler without a deadline has 9,223,372,036,8xx,xxx,xxx seconds left, and not None.
#
# Version    grpcio 1.85.3. Its documentation of ServicerContext.time_remaining: a non-negative float, or None if no deadline was specified.
# Behaviour  Without a deadline a synchronous server's handler is told some 2^63 seconds less the time since 1970, 292 billion years. The client's
#            call object says None, as documented.
# Guess      None on both sides.
# Matters    "if remaining is None" is never true there. Who passes the number on, divided among backends or as a timeout of a socket, gets
#            OverflowError from Python's sockets and locks: under no load and with no deadline, in production first.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.85.3

cat >asked.py <<'END'
import socket, threading
from concurrent import futures
import grpc

told = []


def handler(request, context):
    told.append(context.time_remaining())
    return request


def told_or_raised(call):
    try:
        return call() or "taken"
    except OverflowError as error:
        return "OverflowError: %s" % error


server = grpc.server(futures.ThreadPoolExecutor(2))
method = grpc.unary_unary_rpc_method_handler(handler)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.B", {"C": method})])
call = grpc.insecure_channel("127.0.0.1:%d" % server.add_insecure_port("127.0.0.1:0")).unary_unary("/a.B/C")
server.start()
call(b"", timeout=60)
print("with one of 60 s: %s" % (55 < told[0] <= 60))
_, begun = call.with_call(b"")
print("without: %s, as a number %.3e" % (type(told[1]).__name__, told[1]))
print("for the client: %s" % begun.time_remaining())
print("as a socket's timeout: %s" % told_or_raised(lambda: socket.socket().settimeout(told[1])))
print("as a lock's timeout: %s" % told_or_raised(lambda: threading.Lock().acquire(timeout=told[1])))
server.stop(None)
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
with one of 60 s: True
without: float, as a number 9.223e+18
for the client: None
as a socket's timeout: OverflowError: timestamp out of range for platform time_t
as a lock's timeout: OverflowError: timestamp out of range for platform time_t
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
