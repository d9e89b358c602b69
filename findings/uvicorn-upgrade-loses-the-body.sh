#!/usr/bin/env bash
# uvicorn with httptools gives the application an empty body if the request offers an upgrade.
#
# Version    uvicorn 0.54.0 with httptools 0.9.0 (what `uvicorn[standard]` installs) beside h11 0.16.0 (the other
#            choice). RFC 9110 7.8: a server may ignore Upgrade, and then answers the request as if it had not been
#            there.
# Behaviour  POST with Connection: Upgrade, Upgrade: h2c, Content-Length: 5 and five bytes. With h11 the application
#            gets the five bytes. With httptools it gets none, and a 200 is sent. Without Upgrade both get them.
# Guess      An upgrade that nobody takes changes nothing; above all not by choice of the parser.
# Matters    Java's HttpClient offers h2c with its first request to each plain http host, bodies included, so those
#            calls arrive empty. A server that hands the connection over at an upgrade decides first whether it takes
#            it.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0
cat >"$work/application.py" <<'END'
async def application(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    text = b"body: %s" % repr(body).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
END
seen=$(cd "$work" && PYTHONPATH="$work/packages:$work" python3 - <<'END'
import asyncio, socket, threading
import uvicorn
from application import application

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
for parser in ("h11", "httptools"):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=parser, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True).start()
    for offer in (b"", OFFER):
        client = socket.create_connection(listener.getsockname())
        client.settimeout(10)
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + offer + b"Content-Length: 5\r\n\r\nhello")
        answer = b""
        while b"body: " not in answer or not answer.endswith(b"'"):
            answer += client.recv(4096)
        print(parser, "with offer" if offer else "plain", answer[9:12].decode(), answer.split(b"\r\n\r\n")[1].decode())
END
)

expected=$(cat <<'END'
h11 plain 200 body: b'hello'
h11 with offer 200 body: b'hello'
httptools plain 200 body: b'hello'
httptools with offer 200 body: b''
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
