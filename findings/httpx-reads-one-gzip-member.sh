#!/usr/bin/env bash
# httpx drops all but the first member of a gzip body, without an error.
#
# Version    httpx 0.28.1 (GZipDecoder), beside requests 2.34.2 with urllib3 2.8.0, and aiohttp 3.14.5. RFC 1952 2.2: a
#            file is a series of members, one after the other. RFC 9110 8.4.1.3 takes the format from there.
# Behaviour  A body with Content-Encoding: gzip is made of two members, "first " and "second". httpx gives "first " and
#            status 200. requests and aiohttp give all of it.
# Guess      All use zlib, so all read all members, or none does; a loss of data would be an error.
# Matters    Servers that join ready-made compressed parts, or flush a stream by ending the member (rotated logs, cat
#            a.gz b.gz) are cut short for these clients only. Compress a body as one member.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    httpx==0.28.1 requests==2.34.2 urllib3==2.8.0 aiohttp==3.14.5
seen=$(PYTHONPATH="$work/packages" python3 - <<'END'
import asyncio, gzip, http.server, threading
import aiohttp, httpx, requests

BODY = gzip.compress(b"first ") + gzip.compress(b"second")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
session = requests.Session()
session.trust_env = False


async def by_aiohttp():
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        return await response.read()


print("gzip itself:", gzip.decompress(BODY))
print("httpx:", httpx.get(url, trust_env=False).content)
print("requests:", session.get(url).content)
print("aiohttp:", asyncio.run(by_aiohttp()))
END
)

expected=$(cat <<'END'
gzip itself: b'first second'
httpx: b'first '
requests: b'first second'
aiohttp: b'first second'
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
