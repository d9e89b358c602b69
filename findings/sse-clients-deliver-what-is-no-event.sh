#!/usr/bin/env bash
# Event-stream clients hand over what is no event: what a cut left of one, and events without data.
#
# Version    sseclient-py 1.9.0, httpx-sse 0.4.3 with httpx 0.28.1, fetch-event-stream 0.1.6, eventsource-parser 3.1.1.
#            HTML Living Standard 9.2.6: an event whose blank line never came is discarded; one without data is no event.
# Behaviour  A stream that ends after "data: b" and its line end: sseclient-py gives "b" as an event. A heartbeat of
#            "event: ping" and a blank line: httpx-sse and fetch-event-stream give an event, with "" or no data. A line
#            "data" alone (an event whose data is empty): fetch-event-stream gives none. LF CR as two line ends:
#            sseclient-py joins two events into one. eventsource-parser is right in all.
# Guess      The format is ten lines of a standard, with the steps written out: all clients agree.
# Matters    A server that is killed within an event makes sseclient-py act on half of a message of several data lines. A
#            heartbeat of a named event, in place of a comment, ends up in json.loads(""). Send ": ping" as heartbeat,
#            LF alone as line end, and end streams with an event that says so.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    sseclient-py==1.9.0 httpx-sse==0.4.3 httpx==0.28.1
npm install --silent --no-audit --no-fund --prefix "$work" fetch-event-stream@0.1.6 eventsource-parser@3.1.1
cat >"$work/cases.json" <<'END'
{"cut": "data: a\n\ndata: b\n", "heartbeat": "event: ping\n\ndata: a\n\n", "empty": "data\n\n", "lf cr": "data: a\n\rdata: b\n\n"}
END
cat >"$work/probe.mjs" <<'END'
import { readFileSync } from 'node:fs';
import { createParser } from 'eventsource-parser';
import { events } from 'fetch-event-stream';

const cases = JSON.parse(readFileSync(process.argv[2]));
for (const [name, stream] of Object.entries(cases)) {
    const parsed = [];
    createParser({ onEvent: event => parsed.push([event.event ?? 'message', event.data ?? null]) }).feed(stream);
    console.log(`${name}: eventsource-parser ${JSON.stringify(parsed)}`);
    const fetched = [];
    for await (const event of events(new Response(stream))) fetched.push([event.event ?? 'message', event.data ?? null]);
    console.log(`${name}: fetch-event-stream ${JSON.stringify(fetched)}`);
}
END
seen=$(
    PYTHONPATH="$work/packages" python3 - "$work/cases.json" <<'END'
import json, sys
import httpx, httpx_sse, sseclient

for name, stream in json.load(open(sys.argv[1])).items():
    events = [[event.event, event.data] for event in sseclient.SSEClient(iter([stream.encode()])).events()]
    print(f"{name}: sseclient-py {json.dumps(events, separators=(',', ':'))}")
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=iter([stream.encode()]))
    events = [[event.event, event.data] for event in httpx_sse.EventSource(response).iter_sse()]
    print(f"{name}: httpx-sse {json.dumps(events, separators=(',', ':'))}")
END
    node "$work/probe.mjs" "$work/cases.json"
)

expected=$(cat <<'END'
cut: sseclient-py [["message","a"],["message","b"]]
cut: httpx-sse [["message","a"]]
heartbeat: sseclient-py [["message","a"]]
heartbeat: httpx-sse [["ping",""],["message","a"]]
empty: sseclient-py [["message",""]]
empty: httpx-sse [["message",""]]
lf cr: sseclient-py [["message","a\nb"]]
lf cr: httpx-sse [["message","a"],["message","b"]]
cut: eventsource-parser [["message","a"]]
cut: fetch-event-stream [["message","a"]]
heartbeat: eventsource-parser [["message","a"]]
heartbeat: fetch-event-stream [["ping",null],["message","a"]]
empty: eventsource-parser [["message",""]]
empty: fetch-event-stream []
lf cr: eventsource-parser [["message","a"],["message","b"]]
lf cr: fetch-event-stream [["message","a"],["message","b"]]
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
