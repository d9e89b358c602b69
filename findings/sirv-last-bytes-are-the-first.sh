#!/usr/bin/env bash
# sirv answers a request for the last three bytes with the first four, and for the first byte with all.
#
# Version    sirv 3.0.2 from npm; RFC 9110, 14.1.2.
# Behaviour  "bytes=-3" is 206 with "Content-Range: bytes 0-3/10"; "bytes=0-0" is 206 with all ten bytes. "bytes=2-4" is right.
# Guess      A suffix has its own branch in any parser of ranges, and 0 is an end like others.
# Matters    The answer is 206 and agrees with its own Content-Range, so that only a client which compares that with what it
#            asked for sees it. bytes=0-0 is how many players find out whether ranges work: they get the whole film.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir files
printf 0123456789 >files/f.txt
python3 -m venv venv
npm install --silent --no-audit --no-fund --prefix "$work" sirv@3.0.2

cat >served.cjs <<'END'
const [, , name, port, files] = process.argv;
if (name === 'sirv') {
    require('http').createServer(require('sirv')(files)).listen(port, '127.0.0.1');
}
END

seen=$(venv/bin/python - <<'END'
import http.client, os, signal, socket, subprocess, time

SERVERS = {
    "sirv": "exec node served.cjs sirv {port} $PWD/files",
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
    for asked in ("bytes=2-4", "bytes=-3", "bytes=0-0"):
        print("%-9s %s" % (asked, told(*ask(port, "GET", {"Range": asked}))))
    os.killpg(process.pid, signal.SIGKILL)
END
)

expected=$(cat <<'END'
bytes=2-4 206 bytes 2-4/10 234
bytes=-3  206 bytes 0-3/10 0123
bytes=0-0 206 bytes 0-9/10 0123456789
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
