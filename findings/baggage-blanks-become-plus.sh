#!/usr/bin/env bash
# A blank in OpenTelemetry's baggage leaves Python as "+", which the others read as a plus; and what it receives as "+" is a blank.
#
# Version    opentelemetry-api 1.45.2 (Python), @opentelemetry/core 2.12.1. W3C Baggage: a value is percent-encoded; "+" is a character like any other.
# Behaviour  Python writes "a b" as k=a+b, and JavaScript reads "a+b". JavaScript hands on k=a+b as k=a%2Bb; Python reads a raw k=a+b as "a b". Properties
#            behind ";" become a part of the value in Python: k=1;p=2 goes on as k=1%3Bp%3D2. JavaScript does not read k= at all.
# Guess      One alphabet for all: percent-encoding, as in the standard, and the same value at each end.
# Matters    A user's name, an experiment's or a tenant's, changes on the way from one service to the next, and selects something else there. Keep to
#            letters and digits in baggage, or encode values yourself (base64url).

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which node >/dev/null
npm init -y >/dev/null
npm install --silent --no-audit --no-fund @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1 >/dev/null
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.45.2

cat >asked.py <<'END'
import json, sys
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator

propagator = W3CBaggagePropagator()
for came in sys.argv[1:]:
    context, out = propagator.extract({"baggage": came}), {}
    propagator.inject(out, context)
    print("Python     %-8s is %-7s goes on as %s" % (came, json.dumps(baggage.get_baggage("k", context)), out.get("baggage", "nothing")))
out = {}
propagator.inject(out, baggage.set_baggage("k", "a b"))
print("Python     %-8s leaves as %s" % ("a b", out["baggage"]))
END
cat >asked.js <<'END'
const { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter, propagation } = require("@opentelemetry/api");
const { W3CBaggagePropagator } = require("@opentelemetry/core");

const propagator = new W3CBaggagePropagator();
for (const came of process.argv.slice(2)) {
  const context = propagator.extract(ROOT_CONTEXT, { baggage: came }, defaultTextMapGetter);
  const out = {};
  propagator.inject(context, out, defaultTextMapSetter);
  const value = JSON.stringify(propagation.getBaggage(context)?.getEntry("k")?.value ?? null);
  console.log("JavaScript %s is %s goes on as %s", came.padEnd(8), value.padEnd(7), out.baggage ?? "nothing");
}
const out = {};
const made = propagation.setBaggage(ROOT_CONTEXT, propagation.createBaggage({ k: { value: "a b" } }));
propagator.inject(made, out, defaultTextMapSetter);
console.log("JavaScript %s leaves as %s", "a b".padEnd(8), out.baggage);
END
values=("k=a+b" "k=a%20b" "k=a%2Bb" "k=1;p=2" "k=")
seen=$(venv/bin/python asked.py "${values[@]}" && node asked.js "${values[@]}")

expected=$(cat <<'END'
Python     k=a+b    is "a b"   goes on as k=a+b
Python     k=a%20b  is "a b"   goes on as k=a+b
Python     k=a%2Bb  is "a+b"   goes on as k=a%2Bb
Python     k=1;p=2  is "1;p=2" goes on as k=1%3Bp%3D2
Python     k=       is ""      goes on as k=
Python     a b      leaves as k=a+b
JavaScript k=a+b    is "a+b"   goes on as k=a%2Bb
JavaScript k=a%20b  is "a b"   goes on as k=a%20b
JavaScript k=a%2Bb  is "a+b"   goes on as k=a%2Bb
JavaScript k=1;p=2  is "1"     goes on as k=1;p=2
JavaScript k=       is null    goes on as nothing
JavaScript a b      leaves as k=a%20b
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
