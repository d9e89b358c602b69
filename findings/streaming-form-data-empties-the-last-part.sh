#!/usr/bin/env bash
# streaming-form-data gives the last part of a form as empty, without an error, if bytes follow the last boundary.
#
# Version    streaming-form-data 2.1.0, beside python-multipart 0.0.34 and Werkzeug 3.1.9. RFC 2046 5.1.1: an epilogue may
#            follow the closing boundary, and is to be ignored. (One CRLF there is not an epilogue: all are used to it.)
# Behaviour  A form of a field and a file, and after its end a line "bye" or one blank. streaming-form-data gives the field
#            and an empty file. The two others give both whole.
# Guess      A parser made for large uploads reports a part as it ends, long before it sees what follows the form; so an
#            epilogue is skipped, or is an error.
# Matters    The upload is stored, with no bytes. Clients should send nothing behind the closing line; a service should
#            compare sizes, or hashes, with what the client says.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    streaming-form-data==2.1.0 python-multipart==0.0.34 Werkzeug==3.1.9
seen=$(PYTHONPATH="$work/packages" python3 - <<'END'
import io
import python_multipart
from streaming_form_data import StreamingFormDataParser
from streaming_form_data.targets import ValueTarget
from werkzeug.formparser import parse_form_data

KIND = "multipart/form-data; boundary=B"
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n'
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\ntwo\r\n--B--'
)


def streaming(form):
    parser, targets = StreamingFormDataParser(headers={"Content-Type": KIND}), {"a": ValueTarget(), "f": ValueTarget()}
    for name, target in targets.items():
        parser.register(name, target)
    parser.data_received(form)
    return {name: target.value.decode() for name, target in targets.items()}


def starlette(form):
    parts = {}
    field = lambda part: parts.update({part.field_name.decode(): part.value.decode()})

    def file(part):
        part.file_object.seek(0)
        parts[part.field_name.decode()] = part.file_object.read().decode()

    python_multipart.parse_form({"Content-Type": KIND, "Content-Length": str(len(form))}, io.BytesIO(form), field, file)
    return parts


def flask(form):
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": KIND, "CONTENT_LENGTH": str(len(form)), "wsgi.input": io.BytesIO(form)}
    _, fields, files = parse_form_data(environ, silent=False)
    return dict(fields) | {name: file.read().decode() for name, file in files.items()}


for name, end in (("CRLF", b"\r\n"), ("a blank", b" \r\n"), ("an epilogue", b"\r\nbye\r\n")):
    for parser, parse in (("streaming-form-data", streaming), ("python-multipart", starlette), ("Werkzeug", flask)):
        print(f"{name}: {parser} {parse(FORM + end)}")
END
)

expected=$(cat <<'END'
CRLF: streaming-form-data {'a': 'one', 'f': 'two'}
CRLF: python-multipart {'a': 'one', 'f': 'two'}
CRLF: Werkzeug {'a': 'one', 'f': 'two'}
a blank: streaming-form-data {'a': 'one', 'f': ''}
a blank: python-multipart {'a': 'one', 'f': 'two'}
a blank: Werkzeug {'a': 'one', 'f': 'two'}
an epilogue: streaming-form-data {'a': 'one', 'f': ''}
an epilogue: python-multipart {'a': 'one', 'f': 'two'}
an epilogue: Werkzeug {'a': 'one', 'f': 'two'}
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
