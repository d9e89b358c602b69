#!/usr/bin/env bash
# Python's protobuf drops a map entry that has a field more than a key and a value; its other implementation, and JavaScript's, do not.
#
# Version    protobuf 7.36.2 (upb, and with PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python), protobufjs 8.8.1. The language guide, "Backwards compatibility": a map
#            is on the wire a repeated message of key = 1 and value = 2, and whoever supports maps must accept what that produces.
# Behaviour  {key: "a", value: 1, field 3: 5} for map<string, int32>: upb has an empty map, and keeps the entry among the unknown fields. The implementation in
#            Python and protobufjs have {"a": 1}. A message that is no map entry has its known fields in all of them.
# Guess      Unknown fields are skipped or kept, and the known ones beside them are there: that is what protobuf is for.
# Matters    To turn map<K, V> into a repeated message with one field more is the documented way to extend it. Readers in Python (and PHP, Ruby and others that
#            are built on upb) then have an empty map, without an error: labels, quotas and permissions are missing. They hand the entries on unseen.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which node >/dev/null
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check protobuf==7.36.2
npm init -y >/dev/null
npm install --silent --no-audit --no-fund protobufjs@8.8.1 >/dev/null

cat >asked.py <<'END'
import sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import api_implementation

file = descriptor_pb2.FileDescriptorProto(name="of.proto", syntax="proto3")
message = file.message_type.add(name="M")
entry = message.nested_type.add(name="CountsEntry")
entry.options.map_entry = True
entry.field.add(name="key", number=1, type=9, label=1)
entry.field.add(name="value", number=2, type=5, label=1)
message.field.add(name="counts", number=1, type=11, label=3, type_name=".M.CountsEntry")
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
M = message_factory.GetMessageClass(pool.FindMessageTypeByName("M"))
for name, came in zip(sys.argv[1::2], sys.argv[2::2]):
    read = M.FromString(bytes.fromhex(came))
    handed = "as it came" if read.SerializeToString().hex() == came else "otherwise"
    print("Python, %-7s %s: %s, handed on %s" % (api_implementation.Type() + ",", name, dict(read.counts), handed))
END
cat >asked.js <<'END'
const M = require("protobufjs").parse('syntax = "proto3"; message M { map<string, int32> counts = 1; }').root.lookupType("M");
const given = process.argv.slice(2);
for (let at = 0; at < given.length; at += 2) {
  console.log("protobufjs       %s: %j", given[at], M.decode(Buffer.from(given[at + 1], "hex")).counts);
}
END
given=("key and value" 0a050a01611001 "and a third  " 0a070a016110011805)
seen=$(
    venv/bin/python asked.py "${given[@]}"
    PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python venv/bin/python asked.py "${given[@]}"
    node asked.js "${given[@]}"
)

expected=$(cat <<'END'
Python, upb,    key and value: {'a': 1}, handed on as it came
Python, upb,    and a third  : {}, handed on as it came
Python, python, key and value: {'a': 1}, handed on as it came
Python, python, and a third  : {'a': 1}, handed on otherwise
protobufjs       key and value: {"a":1}
protobufjs       and a third  : {"a":1}
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
