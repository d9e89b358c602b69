#!/usr/bin/env bash
# busboy gives an empty form, without an error, if blanks follow the boundaries; most others refuse.
#
# Version    busboy 1.6.0 (below multer and Fastify), formidable 3.5.4, multiparty 4.3.1, undici 7.30.2; python-multipart
#            0.0.34 (below Starlette and FastAPI), multipart 2.0.1, Werkzeug 3.1.9. RFC 2046 5.1.1: boundary lines may end
#            in "transport-padding", and receivers must handle it. RFC 7578 takes the syntax from there.
# Behaviour  A form of one field, with two spaces behind its first boundary: busboy ends with no field and no error.
#            formidable, multiparty, undici, python-multipart and multipart refuse it. Werkzeug reads it.
# Guess      Padding is in the grammar since 1996 and trailing blanks are the commonest of oddities: all skip it.
# Matters    What some gateways and hand-written clients send is an error in most services, which is fine, and "all fields
#            missing" in those on busboy, where an optional field is lost in silence. Send no blanks there; and a parser
#            that finds no boundary where its header names one should say so.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

npm install --silent --no-audit --no-fund --prefix "$work" busboy@1.6.0 formidable@3.5.4 multiparty@4.3.1 undici@7.30.2
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    python-multipart==0.0.34 multipart==2.0.1 Werkzeug==3.1.9
printf -- '--B  \r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n--B--\r\n' >"$work/form"
cat >"$work/probe.mjs" <<'END'
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import busboy from 'busboy';
import formidable from 'formidable';
import multiparty from 'multiparty';
import { Response } from 'undici';

const form = readFileSync(process.argv[2]);
const headers = { 'content-type': 'multipart/form-data; boundary=B', 'content-length': String(form.length) };
const request = () => Object.assign(Readable.from([form]), { headers });
const fields = {};
console.log('busboy:', await new Promise(done => {
    const parser = busboy({ headers }).on('field', (name, value) => { fields[name] = value; });
    parser.on('error', () => done('refused')).on('close', () => done(JSON.stringify(fields)));
    request().pipe(parser);
}));
console.log('formidable:', await formidable({}).parse(request()).then(([fields]) => JSON.stringify(fields), () => 'refused'));
console.log('multiparty:', await new Promise(done => {
    new multiparty.Form().parse(request(), (error, fields) => done(error ? 'refused' : JSON.stringify(fields)));
}));
console.log('undici:', await new Response(form, { headers }).formData().then(form => JSON.stringify([...form]), () => 'refused'));
END
seen=$(
    node "$work/probe.mjs" "$work/form"
    PYTHONPATH="$work/packages" python3 - "$work/form" 2>/dev/null <<'END'
import io, sys
import multipart, python_multipart
from werkzeug.formparser import parse_form_data

form = open(sys.argv[1], "rb").read()
kind = "multipart/form-data; boundary=B"


def starlette():
    fields = {}
    take = lambda field: fields.update({field.field_name.decode(): field.value.decode()})
    python_multipart.parse_form({"Content-Type": kind, "Content-Length": str(len(form))}, io.BytesIO(form), take, None)
    return fields


def bottle():
    return {part.name: part.value for part in multipart.MultipartParser(io.BytesIO(form), b"B")}


def flask():
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(form)), "wsgi.input": io.BytesIO(form)}
    return dict(parse_form_data(environ, silent=False)[1])


for name, parse in (("python-multipart", starlette), ("multipart", bottle), ("Werkzeug", flask)):
    try:
        print(f"{name}: {parse()}")
    except Exception:
        print(f"{name}: refused")
END
)

expected=$(cat <<'END'
busboy: {}
formidable: refused
multiparty: refused
undici: refused
python-multipart: refused
multipart: refused
Werkzeug: {'a': 'one'}
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
