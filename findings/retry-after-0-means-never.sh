#!/usr/bin/env bash
# "Retry-After: 0" is the end for one client, a second's pause for another, and two others do not read the field at all.
#
# Version    retry-axios 4.0.3, got 14.6.6, ky 1.14.3, undici 7.30.2 (RetryAgent), ofetch 1.5.1, make-fetch-happen 15.0.6, Node 20. RFC 9110, 10.2.3:
#            seconds or a date, from which on a further request is welcome.
# Behaviour  retry-axios tries a 503 again if it says nothing, and not at all if it says "0" or a date that has passed. got takes 0 for
#            nothing said, and waits a second. ofetch tries again at once, whatever is said, make-fetch-happen after its own second.
# Guess      0, and a date that has passed, mean now; and what has "retry" as an option reads the one field that is made for it.
# Matters    A server that drains says "0" (another instance is there at once): one client gives up by it. One that says "2" because it
#            is overloaded is asked again by ofetch within a millisecond: shed load by refusing connections, not by asking for time.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund retry-axios@4.0.3 axios@1.21.1 got@14.6.6 ky@1.14.3 undici@7.30.2 ofetch@1.5.1 make-fetch-happen@15.0.6

cat >asked.mjs <<'END'
import { createServer } from "node:http";
import axios from "axios";
import got from "got";
import ky from "ky";
import fetchHappen from "make-fetch-happen";
import { ofetch } from "ofetch";
import * as rax from "retry-axios";
import { Agent, RetryAgent, request } from "undici";

const SAID = { nothing: null, 0: () => "0", 2: () => "2", past: () => new Date(Date.now() - 3_600_000).toUTCString() };
const asked = {};
const server = createServer((request, response) => {
  const [, name, said] = request.url.split("/");
  const times = (asked[request.url] ??= []);
  if (times.push(Date.now()) > 1) return response.end("ok");
  response.writeHead(503, SAID[said] ? { "Retry-After": SAID[said](), "Content-Length": 0 } : { "Content-Length": 0 });
  response.end();
});
await new Promise((up) => server.listen(0, "127.0.0.1", up));
const withRax = axios.create();
withRax.defaults.raxConfig = { retry: 2 };
rax.attach(withRax);
const clients = {
  "retry-axios": (url) => withRax.get(url),
  got: (url) => got(url, { retry: { limit: 2 } }),
  ky: (url) => ky(url, { retry: 2 }),
  undici: (url) => request(url, { dispatcher: new RetryAgent(new Agent(), { maxRetries: 2 }) }),
  ofetch: (url) => ofetch(url, { retry: 2 }),
  "make-fetch-happen": (url) => fetchHappen(url, { retry: 2 }),
};
const pause = ([first, second]) => {
  if (!second) return "never";
  const waited = second - first;
  return waited < 200 ? "at once" : waited < 800 ? "half a second" : waited < 1500 ? "a second" : "two seconds";
};
console.log("                   " + Object.keys(SAID).map((said) => said.padEnd(15)).join("").trimEnd());
for (const [name, get] of Object.entries(clients)) {
  const row = await Promise.all(Object.keys(SAID).sort().map(async (said) => {
    const path = `/${name}/${said}`;
    await get(`http://127.0.0.1:${server.address().port}${path}`).catch(() => {});
    return [said, pause(asked[path])];
  }));
  const told = Object.fromEntries(row);
  console.log(name.padEnd(19) + Object.keys(SAID).map((said) => told[said].padEnd(15)).join("").trimEnd());
}
process.exit();
END

seen=$(node asked.mjs)

expected=$(cat <<'END'
                   0              2              nothing        past
retry-axios        never          two seconds    at once        never
got                a second       two seconds    a second       at once
ky                 at once        two seconds    half a second  at once
undici             half a second  two seconds    half a second  half a second
ofetch             at once        at once        at once        at once
make-fetch-happen  a second       a second       a second       a second
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
