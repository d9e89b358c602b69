#!/usr/bin/env bash
# A HEAD that is redirected becomes a GET, and the whole body comes.
#
# Version    CPython 3.11 (urllib.request), urllib3 2.8.0, node-fetch 3.3.2, needle 3.5.0; beside them requests 2.34.2, httpx 0.28.1,
#            Node 20's fetch. RFC 9110, 15.4.4, has "GET or HEAD" for a client that follows a 303; the fetch standard keeps HEAD.
# Behaviour  urllib.request and needle ask by GET after any redirect of a HEAD, urllib3 and node-fetch after a 303.
# Guess      HEAD is as safe as GET, so that nothing needs to be changed: it stays.
# Matters    Link checkers and size probes download what they meant to measure; a server's "HEAD is cheap" path is passed by.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check requests==2.34.2 httpx==0.28.1 urllib3==2.8.0
npm install --silent --no-audit --no-fund --prefix "$work" node-fetch@3.3.2 needle@3.5.0

cat >head.mjs <<'END'
const [, , name, url] = process.argv;
if (name === 'needle') {
    const { default: needle } = await import('needle');
    await needle('head', url, null, { follow_max: 5 });
} else {
    const ask = name === 'fetch' ? fetch : (await import('node-fetch')).default;
    await ask(url, { method: 'HEAD' });
}
process.exit();
END

seen=$(venv/bin/python - <<'END'
import http.server, subprocess, threading, urllib.request

import httpx, requests, urllib3


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

def by_urllib(url):
    urllib.request.urlopen(urllib.request.Request(url, method="HEAD")).close()


def by_node(name):
    return lambda url: subprocess.run(["node", "head.mjs", name, url], check=True)


CLIENTS = {
    "urllib.request": by_urllib,
    "urllib3": lambda url: urllib3.request("HEAD", url),
    "requests": lambda url: requests.head(url, allow_redirects=True),
    "httpx": lambda url: httpx.head(url, follow_redirects=True),
    "node-fetch": by_node("node-fetch"),
    "needle": by_node("needle"),
    "Node's fetch": by_node("fetch"),
}
for name, client in CLIENTS.items():
    answers = ["%d: %s" % (status, ends_as(client, base + str(status))) for status in (301, 302, 303, 307, 308)]
    print("%-15s" % name, *answers)
END
)

expected=$(cat <<'END'
urllib.request  301: GET 302: GET 303: GET 307: GET 308: GET
urllib3         301: HEAD 302: HEAD 303: GET 307: HEAD 308: HEAD
requests        301: HEAD 302: HEAD 303: HEAD 307: HEAD 308: HEAD
httpx           301: HEAD 302: HEAD 303: HEAD 307: HEAD 308: HEAD
node-fetch      301: HEAD 302: HEAD 303: GET 307: HEAD 308: HEAD
needle          301: GET 302: GET 303: GET 307: GET 308: GET
Node's fetch    301: HEAD 302: HEAD 303: HEAD 307: HEAD 308: HEAD
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
