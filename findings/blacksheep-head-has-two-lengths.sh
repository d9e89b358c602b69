#!/usr/bin/env bash
# HEAD for a file is answered with two values of Content-Length that differ.
#
# Version    blacksheep 2.6.4 with uvicorn 0.54.0 (h11 or httptools do not object). RFC 9110, 8.6: a message with several values that
#            differ is invalid, and RFC 9112, 6.3, has its receiver treat that as an error that cannot be mended.
# Behaviour  HEAD of a file of 10 bytes has "content-length: 10" and "content-length: 0"; GET has the one.
# Guess      A framework sends HEAD through GET and leaves the body out, so that there is one length.
# Matters    Clients and proxies that follow the RFC close the connection with an error (Go, nginx as a proxy); others take either
#            number. Probes of load balancers often are HEAD.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check blacksheep==2.6.4 uvicorn==0.54.0

cat >served.py <<'END'
import sys

name, port, files = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name == "blacksheep":
    import uvicorn
    from blacksheep import Application
    app = Application()
    app.serve_files(files)
    uvicorn.run(app, port=port, log_level="error")
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "blacksheep": "exec venv/bin/python served.py blacksheep {port} $PWD/files",
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


def ask(port, method, fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, "/f.txt", headers=fields)
    answer = connection.getresponse()
    body = answer.read().decode("latin1")
    connection.close()
    return answer, body


def told(answer, body):
    kind = answer.getheader("content-type") or ""
    body = "(parts)" if "byteranges" in kind else body if answer.status in (200, 206) else ""
    return " ".join(part for part in (str(answer.status), answer.getheader("content-range") or "", body) if part)


for name, command in SERVERS.items():
    process, port = start(command)
    for method in ("GET", "HEAD"):
        answer, _ = ask(port, method, {})
        print("%-4s %d, %s" % (method, answer.status, answer.headers.get_all("content-length")))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
GET  200, ['10']
HEAD 200, ['10', '0']
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
