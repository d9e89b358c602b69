#!/usr/bin/env bash
# For a target in absolute form, one parser of uvicorn gives the path, the other the whole URL as the path.
#
# Version    uvicorn 0.54.0 with httptools 0.9.0 and with h11 0.16.0. RFC 9112 3.2.2: a server must accept the absolute
#            form; the ASGI specification says of "path" that it is the HTTP request target without the query string.
# Behaviour  GET http://a.example/x HTTP/1.1 with Host: a.example. With httptools scope["path"] is "/x", with h11 it is
#            "http://a.example/x", and raw_path the same.
# Guess      The framework takes the form apart, whichever parser is installed.
# Matters    Routes miss for such requests (health checkers and proxies send them) on the machine where the compiled
#            parser is not installed. If a server hands a request target on, say which of the four forms it may have.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0
seen=$(PYTHONPATH="$work/packages" python3 - <<'END'
import asyncio, socket, threading
import uvicorn


async def application(scope, receive, send):
    text = f"path: {scope['path']} raw: {scope['raw_path'].decode()};".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


for parser in ("httptools", "h11"):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=parser, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True).start()
    client = socket.create_connection(listener.getsockname())
    client.settimeout(10)
    client.sendall(b"GET http://a.example/x?q HTTP/1.1\r\nHost: a.example\r\n\r\n")
    answer = b""
    while not answer.endswith(b";"):
        answer += client.recv(4096)
    print(parser, answer[9:12].decode(), answer.split(b"\r\n\r\n")[1].decode())
END
)

expected=$(cat <<'END'
httptools 200 path: /x raw: /x;
h11 200 path: http://a.example/x raw: http://a.example/x;
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
