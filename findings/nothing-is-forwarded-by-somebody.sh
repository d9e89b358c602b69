#!/usr/bin/env bash
# An empty element of a Forwarded list is a hop for one reader, and an error for another.
#
# Version    aiohttp 3.14.5 (request.forwarded), forwarded-parse 2.2.0 (npm). RFC 9110, 5.6.1.2: a recipient takes a reasonable number of
#            empty list elements and ignores them; RFC 7239 defines the field as such a list.
# Behaviour  "for=192.0.2.1,, for=192.0.2.2" and a comma at the end: aiohttp returns an empty element for each, and one for a field that is empty;
#            forwarded-parse throws.
# Guess      Two elements, as in any list of HTTP.
# Matters    Proxies append with ", " to what is there, also to an empty field, and so make such lists. Who takes the address that so many
#            trusted proxies from the end have put there counts one too many, and takes that of another hop.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5
npm init -y >/dev/null
npm install --silent --no-audit --no-fund forwarded-parse@2.2.0

cat >read.py <<'END'
import sys
from aiohttp.test_utils import make_mocked_request

for field in sys.argv[1:]:
    elements = [dict(element) for element in make_mocked_request("GET", "/", headers={"Forwarded": field}).forwarded]
    print("aiohttp         %-34r %s" % (field, elements))
END
cat >read.js <<'END'
const parse = require("forwarded-parse");

for (const field of process.argv.slice(2)) {
  let told;
  try {
    told = JSON.stringify(parse(field));
  } catch (error) {
    told = error.message;
  }
  console.log("forwarded-parse " + `'${field}'`.padEnd(34), told);
}
END

fields=("for=192.0.2.1, for=192.0.2.2" "for=192.0.2.1,, for=192.0.2.2" ", for=192.0.2.1" "for=192.0.2.1," "")
seen=$(venv/bin/python read.py "${fields[@]}" && node read.js "${fields[@]}")

expected=$(cat <<'END'
aiohttp         'for=192.0.2.1, for=192.0.2.2'     [{'for': '192.0.2.1'}, {'for': '192.0.2.2'}]
aiohttp         'for=192.0.2.1,, for=192.0.2.2'    [{'for': '192.0.2.1'}, {}, {'for': '192.0.2.2'}]
aiohttp         ', for=192.0.2.1'                  [{}, {'for': '192.0.2.1'}]
aiohttp         'for=192.0.2.1,'                   [{'for': '192.0.2.1'}, {}]
aiohttp         ''                                 [{}]
forwarded-parse 'for=192.0.2.1, for=192.0.2.2'     [{"for":"192.0.2.1"},{"for":"192.0.2.2"}]
forwarded-parse 'for=192.0.2.1,, for=192.0.2.2'    Unexpected character ',' at index 14
forwarded-parse ', for=192.0.2.1'                  Unexpected character ',' at index 0
forwarded-parse 'for=192.0.2.1,'                   Unexpected end of input
forwarded-parse ''                                 Unexpected end of input
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
