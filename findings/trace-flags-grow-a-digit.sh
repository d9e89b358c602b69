#!/usr/bin/env bash
# The JavaScript propagator of OpenTelemetry writes trace flags above 0f with three digits.
#
# Version    @opentelemetry/core 2.12.1 beside opentelemetry-api 1.45.2 (Python). W3C Trace Context, 3.2.2: flags are two hex digits.
# Behaviour  A context that came with flags 03 goes on with 03; one that came with 10 goes on with 010, and ff with 0ff. Its own reader, and
#            Python's, then take the header for broken and drop the trace. Python hands 10 and ff on as they came.
# Guess      Two digits, whatever the byte is: all 256 values are well-formed, and bits above the first two are reserved, not forbidden.
# Matters    A gateway in Node that only passes contexts on cuts every trace whose caller sets a reserved bit, and the service behind
#            begins a new one without a word. Whoever defines the next flag will meet it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.45.2

cat >handed.js <<'END'
const { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter } = require("@opentelemetry/api");
const { W3CTraceContextPropagator } = require("@opentelemetry/core");

const propagator = new W3CTraceContextPropagator();
const handOn = (traceparent) => {
  const out = {};
  propagator.inject(propagator.extract(ROOT_CONTEXT, { traceparent }, defaultTextMapGetter), out, defaultTextMapSetter);
  return out.traceparent ?? "nothing";
};
for (const flags of ["01", "03", "0f", "10", "ff"]) {
  const once = handOn(`00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-${flags}`);
  console.log(`JavaScript ${flags} -> ${once.split("-").pop()} -> ${handOn(once).split("-").pop()}`);
}
END
cat >handed.py <<'END'
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

propagator = TraceContextTextMapPropagator()
for flags in ["01", "03", "0f", "10", "ff", "010"]:
    out = {}
    came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flags
    propagator.inject(out, propagator.extract({"traceparent": came}))
    print("Python     %s -> %s" % (flags, out.get("traceparent", "nothing").split("-")[-1]))
END

seen=$(node handed.js && venv/bin/python handed.py)

expected=$(cat <<'END'
JavaScript 01 -> 01 -> 01
JavaScript 03 -> 03 -> 03
JavaScript 0f -> 0f -> 0f
JavaScript 10 -> 010 -> nothing
JavaScript ff -> 0ff -> nothing
Python     01 -> 01
Python     03 -> 03
Python     0f -> 0f
Python     10 -> 10
Python     ff -> ff
Python     010 -> nothing
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
