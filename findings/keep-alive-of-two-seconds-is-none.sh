#!/usr/bin/env bash
# "Keep-Alive: timeout=2" makes undici, and so Node's fetch, open a connection for each request; timeout=1 does it with node:http.
#
# Version    undici 7.30.2, Node 20's fetch and http.Agent; httpx 0.28.1, requests 2.34.2 and aiohttp 3.14.5 do not read the field.
# Behaviour  undici takes two seconds off what the server says, so that it never meets the close half way, and takes "nothing left" for "close now". Three
#            requests one after the other, with 50 ms between: three connections for timeout=1 and 2; of http.Agent for timeout=1.
# Guess      A connection that the server keeps for two seconds is used again after 50 ms.
# Matters    A server that says a short time, to be fair to its memory, turns keep-alive off for half of its clients, with a handshake for each request,
#            which costs more than the idle connection. Say at least five seconds, or do not send the field.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which node >/dev/null
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check httpx==0.28.1 requests==2.34.2 aiohttp==3.14.5
npm init -y >/dev/null
npm install --silent --no-audit --no-fund undici@7.30.2 >/dev/null

cat >of_js.js <<'END'
const http = require("http");
const undici = require("undici");
const [, , which, url] = process.argv;
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const one = new undici.Agent({ connections: 1 });
const ask = {
  undici: async () => (await undici.request(url, { dispatcher: one })).body.text(),
  fetch: async () => (await fetch(url)).text(),
  "node:http": () => new Promise((done) => http.get(url, { agent }, (answer) => answer.resume().on("end", done))),
}[which];
(async () => {
  for (let call = 0; call < 3; call++) {
    await ask();
    await new Promise((done) => setTimeout(done, 50));
  }
  process.exit();
})();
END
cat >of_py.py <<'END'
import asyncio, sys, time
import aiohttp, httpx, requests

which, url = sys.argv[1:]


async def of_aiohttp():
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(url) as answer:
                await answer.read()
            await asyncio.sleep(0.05)


if which == "aiohttp":
    asyncio.run(of_aiohttp())
else:
    client = httpx.Client() if which == "httpx" else requests.Session()
    for _ in range(3):
        client.get(url)
        time.sleep(0.05)
END
cat >asked.py <<'END'
import socket, subprocess, threading

came, field = [], b""


def serve(connection):
    asked = b""
    while part := connection.recv(65536):
        asked += part
        if asked.endswith(b"\r\n\r\n"):
            asked = b""
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: 2\r\n\r\nok")


def one(connection):
    try:
        serve(connection)
    except OSError:
        pass


def accept():
    while True:
        came.append(listener.accept()[0])
        threading.Thread(target=one, args=[came[-1]], daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
url = "http://127.0.0.1:%d/" % listener.getsockname()[1]
for timeout in None, 5, 2, 1:
    field = b"Connection: keep-alive\r\nKeep-Alive: timeout=%d\r\n" % timeout if timeout else b""
    told = []
    for client in "undici", "fetch", "node:http", "httpx", "requests", "aiohttp":
        came.clear()
        of = ["venv/bin/python", "of_py.py"] if client in ("httpx", "requests", "aiohttp") else ["node", "of_js.js"]
        subprocess.run(of + [client, url], check=True, capture_output=True)
        told.append("%s %s" % (client, "one each" if len(came) == 3 else "fewer"))
    print("%-10s %s" % ("timeout=%d" % timeout if timeout else "no field", ", ".join(told)))
END
seen=$(venv/bin/python asked.py)

expected=$(cat <<'END'
no field   undici fewer, fetch fewer, node:http fewer, httpx fewer, requests fewer, aiohttp fewer
timeout=5  undici fewer, fetch fewer, node:http fewer, httpx fewer, requests fewer, aiohttp fewer
timeout=2  undici one each, fetch one each, node:http fewer, httpx fewer, requests fewer, aiohttp fewer
timeout=1  undici one each, fetch one each, node:http one each, httpx fewer, requests fewer, aiohttp fewer
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
