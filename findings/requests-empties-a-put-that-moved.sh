#!/usr/bin/env bash
# requests follows a 301 to a PUT with a PUT that has no body.
#
# Version    requests 2.34.2; beside it niquests 3.21.2, urllib3 2.8.0, httpx 0.28.1, aiohttp 3.14.5. RFC 9110, 15.4: a client changes
#            POST to GET on 301 and 302 for historical reasons; of other methods nothing of the kind is said.
# Behaviour  requests.put(url, data=...) and 301: the second request is PUT with Content-Length: 0. On 302 it is a GET. httpx and
#            aiohttp keep method and body on 301, and httpx goes to GET on 302; urllib3 keeps both on both, of POST too.
# Guess      Method and body go together: both kept, or both given up.
# Matters    A store behind a 301 (http to https, a new host, a slash at the end) puts an empty object in the place of the old one and
#            answers 200. Answer 307 or 308 to anything but GET and HEAD.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check requests==2.34.2 niquests==3.21.2 httpx==0.28.1 aiohttp==3.14.5 urllib3==2.8.0

seen=$(venv/bin/python - <<'END'
import asyncio, http.server, threading

import aiohttp, httpx, niquests, requests, urllib3


class Redirecting(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = self.path.strip("/")
        self.send_response(int(status) if status != "moved" else 200)
        if status != "moved":
            self.send_header("Location", "/moved")
        else:
            told.append("%s%s" % (self.command, " with %d bytes" % len(body) if body else ""))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *arguments):
        pass


told = []
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = "http://127.0.0.1:%d/" % server.server_port


def ends_as(call, *arguments):
    told.clear()
    call(*arguments)
    return told[0]

def by_aiohttp(method, url, data):
    async def ask():
        async with aiohttp.ClientSession() as session:
            async with session.request(method, url, data=data):
                pass

    asyncio.run(ask())


CLIENTS = {
    "requests": lambda method, url, data: requests.request(method, url, data=data),
    "niquests": lambda method, url, data: niquests.request(method, url, data=data),
    "httpx": lambda method, url, data: httpx.request(method, url, content=data, follow_redirects=True),
    "aiohttp": by_aiohttp,
    "urllib3": lambda method, url, data: urllib3.request(method, url, body=data),
}
for name, client in CLIENTS.items():
    for status in (301, 302, 308):
        answers = [ends_as(client, method, base + str(status), b"hello") for method in ("PUT", "POST")]
        print("%-8s %d  PUT: %-17s POST: %s" % (name, status, *answers))
END
)

expected=$(cat <<'END'
requests 301  PUT: PUT               POST: GET
requests 302  PUT: GET               POST: GET
requests 308  PUT: PUT with 5 bytes  POST: POST with 5 bytes
niquests 301  PUT: PUT               POST: GET
niquests 302  PUT: GET               POST: GET
niquests 308  PUT: PUT with 5 bytes  POST: POST with 5 bytes
httpx    301  PUT: PUT with 5 bytes  POST: GET
httpx    302  PUT: GET               POST: GET
httpx    308  PUT: PUT with 5 bytes  POST: POST with 5 bytes
aiohttp  301  PUT: PUT with 5 bytes  POST: GET
aiohttp  302  PUT: PUT with 5 bytes  POST: GET
aiohttp  308  PUT: PUT with 5 bytes  POST: POST with 5 bytes
urllib3  301  PUT: PUT with 5 bytes  POST: POST with 5 bytes
urllib3  302  PUT: PUT with 5 bytes  POST: POST with 5 bytes
urllib3  308  PUT: PUT with 5 bytes  POST: POST with 5 bytes
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
