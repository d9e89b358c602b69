#!/usr/bin/env bash
# curl's size_upload is more than the body, if the body goes in chunks.
#
# Version    curl 7.88.1 (Debian 12); the page calls size_upload the bytes that were uploaded, without headers.
# Behaviour  A body of 3,000,000 bytes with Content-Length: size_upload is 3000000. The same body in chunks: some 3000373, the body
#            and the lines that frame its chunks. The other way round size_download has the body alone, in chunks or not.
# Guess      Both count the body: that is what size_download does.
# Matters    A test or a meter that compares size_upload with what the server has stored finds bytes missing, as soon as the length is
#            not known beforehand (a pipe, "-T -").

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"

seen=$(python3 - <<'END'
import http.server, subprocess, threading

BODY = b"x" * 3_000_000


class Counting(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        count = 0
        if "Content-Length" in self.headers:
            count = len(self.rfile.read(int(self.headers["Content-Length"])))
        else:
            while size := int(self.rfile.readline(), 16):
                count += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        counts.append(count)
        self.send_response(204)
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(300):
            self.wfile.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments):
        pass


counts = []
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/" % server.server_port


def told(figure, *arguments):
    command = ["curl", "-so", "/dev/null", "--noproxy", "*", "-w", "%{" + figure + "}", *arguments, url]
    return int(subprocess.run(command, input=BODY, stdout=subprocess.PIPE, check=True).stdout)


for name, fields in (("with its length", []), ("in chunks", ["-H", "Transfer-Encoding: chunked"])):
    size = told("size_upload", "-X", "PUT", "--data-binary", "@-", "-H", "Expect:", *fields)
    print("uploaded %s: curl says %s, the server got %d" % (name, size if size == 3_000_000 else "more", counts[-1]))
print("downloaded in chunks: curl says", told("size_download"))
END
)

expected=$(cat <<'END'
uploaded with its length: curl says 3000000, the server got 3000000
uploaded in chunks: curl says more, the server got 3000000
downloaded in chunks: curl says 3000000
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
