#!/usr/bin/env bash
# An eleventh request, sent before the server has said that it takes ten at a time, ends the other ten as well at Hypercorn.
#
# Version    Hypercorn 0.18.0 with h2 4.4.1; Granian 2.8.9; Node 20.20.2's http2; from PyPI and the machine. RFC 9113,
#            sections 3.4, 5.1.2: a client need not wait for the server's SETTINGS; what is beyond the limit is an error of
#            that stream, and REFUSED_STREAM says that it may be made again.
# Behaviour  Eleven requests go with the first bytes of a connection, to a server that takes ten at a time. Granian and Node
#            answer ten, and refuse the eleventh alone. Hypercorn ends the connection (h2 counts an excess as an error of it),
#            and answers none.
# Guess      Ten answers, and REFUSED_STREAM for the eleventh, at each.
# Matters    The GOAWAY says that the ten were seen, so a client must not make them again if they are POSTs: a burst on a new
#            connection fails whole. Let one request go until the server's SETTINGS have come.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check Hypercorn==0.18.0 h2==4.4.1 granian==2.8.9
cd "$work"

cat > asgi.py <<'END'
import asyncio


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            await send({"type": (await receive())["type"] + ".complete"})
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})
END

cat > server.mjs <<'END'
import http2 from "node:http2";
const server = http2.createServer({ settings: { maxConcurrentStreams: 10 } });
server.on("stream", (stream) => {
    stream.on("error", () => {});
    setTimeout(() => {
        stream.respond({ ":status": 200 });
        stream.end("answer");
    }, 500);
});
server.listen(Number(process.argv[2]), "127.0.0.1");
END

cat > hypercorn.toml <<'END'
h2_max_concurrent_streams = 10
END

seen=$(PATH="$work/venv/bin:$PATH" PYTHONPATH="$work" python - <<'END'
import collections, os, signal, socket, subprocess, time

import h2.config, h2.connection, h2.events

SERVERS = {
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} --http 2 --http2-max-concurrent-streams 10 asgi:app",
    "node": "node server.mjs {port}",
    "hypercorn": "hypercorn -c hypercorn.toml -b 127.0.0.1:{port} asgi:app",
}


def start(command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    process = subprocess.Popen(command.format(port=port), shell=True, **quiet)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("does not start: " + command)


def ask(port):
    """What becomes of eleven requests that go before anything has come."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
    client.initiate_connection()
    streams = range(1, 22, 2)
    for stream in streams:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
        client.send_headers(stream, fields, end_stream=True)
    ends = dict.fromkeys(streams, "nothing")
    connection = "open"
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(3)
        s.sendall(client.data_to_send())
        try:
            while piece := s.recv(65536):
                for event in client.receive_data(piece):
                    if isinstance(event, h2.events.ResponseReceived):
                        ends[event.stream_id] = dict(event.headers)[":status"]
                    elif isinstance(event, h2.events.StreamReset):
                        ends[event.stream_id] = h2.errors.ErrorCodes(event.error_code).name
                    elif isinstance(event, h2.events.ConnectionTerminated):
                        name = h2.errors.ErrorCodes(event.error_code).name
                        connection = f"{name}, seen to {event.last_stream_id}"
                s.sendall(client.data_to_send())
        except (TimeoutError, ConnectionError):
            pass
    return ends, connection


for name, command in SERVERS.items():
    process, port = start(command)
    ends, connection = ask(port)
    counts = ", ".join(f"{count} x {end}" for end, count in collections.Counter(ends.values()).items())
    print(f"{name:<9} {counts}; connection: {connection}")
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
granian   10 x 200, 1 x REFUSED_STREAM; connection: open
node      10 x 200, 1 x REFUSED_STREAM; connection: open
hypercorn 11 x nothing; connection: PROTOCOL_ERROR, seen to 19
END
)
printf '%s
' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:
%s
' "$expected" >&2
    exit 1
}
