#!/usr/bin/env bash
# needle follows 307 and 308 by GET without the body: the two statuses that exist to keep method and body.
#
# Version    needle 3.5.0; beside it got 14.6.6, axios 1.21.1, superagent 10.4.2. RFC 9110, 15.4.8 and 15.4.9: the method must not change.
# Behaviour  A POST of 5 bytes that is answered 307 or 308: needle asks by GET, without a body and with its old Content-Type. The others
#            post again. got also posts again after 301 and 302; superagent makes a GET of a PUT that a 301 moves.
# Guess      Clients differ on 301 and 302; on 307 and 308 all do the same.
# Matters    A service that moves with 308, because that is safe for writes, loses the writes of these clients: the GET is answered
#            200, and nothing was stored.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --prefix "$work" needle@3.5.0 got@14.6.6 axios@1.21.1 superagent@10.4.2

cat >post.mjs <<'END'
const [, , name, method, url] = process.argv;
const headers = { 'content-type': 'text/plain' };
const { default: client } = await import(name);
if (name === 'needle') await client(method.toLowerCase(), url, 'hello', { follow_max: 5, headers });
if (name === 'got') await client(url, { method, body: 'hello', headers });
if (name === 'axios') await client({ url, method, data: 'hello', headers });
if (name === 'superagent') await client(method, url).set(headers).send('hello');
process.exit();
END

seen=$(python3 - <<'END'
import http.server, subprocess, threading


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

for name in ("needle", "got", "axios", "superagent"):
    for method in ("POST", "PUT"):
        client = lambda url: subprocess.run(["node", "post.mjs", name, method, url], check=True)
        answers = ["%d: %s" % (status, ends_as(client, base + str(status))) for status in (301, 302, 307, 308)]
        print("%-11s %-5s" % (name, method), ", ".join(answers))
END
)

expected=$(cat <<'END'
needle      POST  301: GET, 302: GET, 307: GET, 308: GET
needle      PUT   301: GET, 302: GET, 307: GET, 308: GET
got         POST  301: POST with 5 bytes, 302: POST with 5 bytes, 307: POST with 5 bytes, 308: POST with 5 bytes
got         PUT   301: PUT with 5 bytes, 302: PUT with 5 bytes, 307: PUT with 5 bytes, 308: PUT with 5 bytes
axios       POST  301: GET, 302: GET, 307: POST with 5 bytes, 308: POST with 5 bytes
axios       PUT   301: PUT with 5 bytes, 302: PUT with 5 bytes, 307: PUT with 5 bytes, 308: PUT with 5 bytes
superagent  POST  301: GET, 302: GET, 307: POST with 5 bytes, 308: POST with 5 bytes
superagent  PUT   301: GET, 302: GET, 307: PUT with 5 bytes, 308: PUT with 5 bytes
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
