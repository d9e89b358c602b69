#!/usr/bin/env bash
# A deadline of 25 to 49 days is over before the call begins, for a server on grpc-js.
#
# Version    @grpc/grpc-js 1.14.7, grpcio 1.85.3, Node 20. gRPC over HTTP/2: grpc-timeout has up to eight digits and a unit, up to 99,999,999 hours.
# Behaviour  The time is put into 32 bits of milliseconds with a sign. From 2,147,484 seconds on it is in the past, and from 4,294,968 on it is short
#            again: a client of grpcio that gives 30 days gets DEADLINE_EXCEEDED or CANCELLED at once, one that gives 60 days has 10.
# Guess      A time too long for a timer means no timer, or is cut to the longest one.
# Matters    "As good as never" is a usual setting for watches and long polls in clients of other languages. Whole days work in each test and fail at
#            25 of them. Give no deadline in place of a long one.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.85.3
npm install --silent --no-fund --no-audit @grpc/grpc-js@1.14.7 >/dev/null

cat >of_js.js <<'END'
const grpc = require("@grpc/grpc-js");
const same = (bytes) => bytes;
const codec = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const server = new grpc.Server();
const method = { path: "/a.B/C", requestStream: false, responseStream: false, ...codec };
server.addService({ C: method }, {
  C: (call, done) => {
    const days = (call.getDeadline() - Date.now()) / 86400000;
    setTimeout(() => done(null, Buffer.from("has " + days.toFixed(0) + " days")), 100);
  },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => console.log(port));
END
cat >asked.py <<'END'
import subprocess
import grpc

server = subprocess.Popen(["node", "of_js.js"], stdout=subprocess.PIPE)
channel = grpc.insecure_channel("127.0.0.1:%d" % int(server.stdout.readline()))
for days in 1, 24, 25, 30, 49, 50, 60, 365:
    try:
        told = channel.unary_unary("/a.B/C")(b"", timeout=86400 * days).decode()
    except grpc.RpcError as error:
        told = error.code().name.replace("CANCELLED", "DEADLINE_EXCEEDED")
    print("a deadline of %3d days: the server %s" % (days, told))
server.kill()
END

seen=$(venv/bin/python asked.py 2>/dev/null)

expected=$(cat <<'END'
a deadline of   1 days: the server has 1 days
a deadline of  24 days: the server has 24 days
a deadline of  25 days: the server DEADLINE_EXCEEDED
a deadline of  30 days: the server DEADLINE_EXCEEDED
a deadline of  49 days: the server DEADLINE_EXCEEDED
a deadline of  50 days: the server has 0 days
a deadline of  60 days: the server has 10 days
a deadline of 365 days: the server has 17 days
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
