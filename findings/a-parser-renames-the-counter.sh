#!/usr/bin/env bash
# prometheus_client reads "requests 5" of a counter as a sample of another name, "requests_total".
#
# Version    prometheus_client 0.26.0 (Python), its parser for the text format 0.0.4, which says nothing of endings; that of OpenMetrics
#            demands "_total".
# Behaviour  Without a TYPE line, or as a gauge, the sample keeps its name. As a counter it becomes "requests_total", which nobody has sent.
#            A counter that is called "requests_total" makes a family "requests" whose sample has the right name; where TYPE says "requests"
#            and the sample "requests_total", there are two families, and the counter is empty.
# Guess      A parser returns the names that it has read, as Prometheus itself stores them.
# Matters    Agents and tests that are built on this parser look for names that the server does not send, and the same line in Prometheus
#            has another. Counters end in "_total" on the line of the sample and on that of TYPE: then all readers agree.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check prometheus_client==0.26.0

cat >read.py <<'END'
from prometheus_client.parser import text_string_to_metric_families as read

for text in (
    "requests 5\n",
    "# TYPE requests gauge\nrequests 5\n",
    "# TYPE requests counter\nrequests 5\n",
    "# TYPE requests_total counter\nrequests_total 5\n",
    "# TYPE requests counter\nrequests_total 5\n",
):
    families = ["%s %s %s" % (of.type, of.name, [sample.name for sample in of.samples]) for of in read(text)]
    print("%-52r %s" % (text, "; ".join(families)))
END

seen=$(venv/bin/python read.py)

expected=$(cat <<'END'
'requests 5\n'                                       unknown requests ['requests']
'# TYPE requests gauge\nrequests 5\n'                gauge requests ['requests']
'# TYPE requests counter\nrequests 5\n'              counter requests ['requests_total']
'# TYPE requests_total counter\nrequests_total 5\n'  counter requests ['requests_total']
'# TYPE requests counter\nrequests_total 5\n'        counter requests []; unknown requests_total ['requests_total']
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
