#!/usr/bin/env bash
# A time of one second in memcached is anything from nothing to a second: the times count its ticks, not seconds from now.
#
# Version    memcached 1.6.18 (Debian 12); its protocol.txt: a relative time is "an offset in seconds from current time".
# Behaviour  60 keys are stored within three seconds, each for 1 s. Some are gone after less than 0.2 s, none lives longer than 1.2 s. For 2 s it is 1 to 2. The
#            server compares with a clock that one timer moves on each second, and what was set in the same tick for 1 s ends with that tick.
# Guess      At least as long as was asked, as in Redis and etcd; a clock of whole seconds would round up: 1 to 2 s.
# Matters    `add` with a time of 1 s is the common lock, rate limit and "do it once": here it may end while the owner has not begun. Ask for one second more
#            than is needed, and never for one.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which memcached >/dev/null || apt-get install --quiet=2 --yes --no-install-recommends memcached >/dev/null 2>&1
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
memcached -u nobody -l 127.0.0.1 -p "$port" &
trap 'kill %1; rm -rf "$work"' EXIT
until (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done

cat >asked.py <<'END'
import socket, sys, time

stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
answers = stream.makefile("rb")


def ask(command):
    stream.sendall(command)
    line = answers.readline()
    if line.startswith(b"VALUE"):
        answers.readline()
        answers.readline()
    return line.strip()


for seconds in 1, 2:
    stored, ended, began = {}, {}, time.monotonic()
    while len(ended) < 60:
        if len(stored) < 60 and time.monotonic() - began > len(stored) * 0.05:
            # Before the call: the times below are at most too long.
            now = time.monotonic()
            assert ask(b"add k%d 0 %d 1\r\nx\r\n" % (len(stored), seconds)) == b"STORED"
            stored[len(stored)] = now
        for key in stored.keys() - ended.keys():
            if ask(b"get k%d\r\n" % key) == b"END":
                ended[key] = time.monotonic()
        time.sleep(0.005)
    ask(b"flush_all\r\n")
    lives = [ended[key] - stored[key] for key in stored]
    least = "under" if min(lives) < seconds - 0.8 else "above"
    most = "under" if max(lives) < seconds + 0.2 else "above"
    print("stored for %d s: the least lives %s %.1f s, the most %s %.1f s" % (seconds, least, seconds - 0.8, most, seconds + 0.2))
END
seen=$(python3 asked.py "$port")

expected=$(cat <<'END'
stored for 1 s: the least lives under 0.2 s, the most under 1.2 s
stored for 2 s: the least lives under 1.2 s, the most under 2.2 s
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
