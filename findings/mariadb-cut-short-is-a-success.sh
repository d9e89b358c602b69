#!/usr/bin/env bash
# A statement that MariaDB cuts short is a success if it was in BENCHMARK or GET_LOCK: with an answer that looks like one.
#
# Version    MariaDB 10.11.19 (Debian 12), PyMySQL 1.2.4.
# Behaviour  With max_statement_time of half a second, or by KILL QUERY, SELECT SLEEP(5) ends with an error (1969 and 1317). SELECT BENCHMARK(...) ends just as early
#            and answers 0, as when all its rounds were run; SELECT GET_LOCK('a', 5) answers NULL. Neither is an error; BENCHMARK leaves a warning, 1317, and GET_LOCK none.
# Guess      A statement that the server interrupts fails, whatever it was at: "Query execution was interrupted".
# Matters    Deadlines, timeouts of drivers and tests of both are tried with such functions: the test passes, and has shown nothing. A NULL of GET_LOCK is taken for 0
#            ("somebody else has it") at best. Look at the time as well, and try cancelling with SLEEP or with real rows.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 300 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which mariadbd >/dev/null || apt-get install --quiet=2 --yes --no-install-recommends mariadb-server >/dev/null 2>&1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check PyMySQL==1.2.4
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
chmod 755 .
as=()
[ "$(id -u)" != 0 ] || as=(--user=mysql)
mkdir server
[ "$(id -u)" != 0 ] || chown mysql server
mariadb-install-db --no-defaults --datadir="$work/server/data" "${as[@]}" --auth-root-authentication-method=normal --skip-test-db >/dev/null 2>&1
mariadbd --no-defaults "${as[@]}" --datadir="$work/server/data" --bind-address=127.0.0.1 --port="$port" --socket="$work/server/socket" >/dev/null 2>&1 &
trap 'kill %1; wait %1 || true; rm -rf "$work"' EXIT
until (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done

cat >asked.py <<'END'
import sys, threading, time
import pymysql


def connect():
    return pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root")


connection, other = connect(), connect()
with other.cursor() as cursor:
    cursor.execute("SELECT GET_LOCK('a', 0)")


def ask(how, statement):
    began = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            answer = cursor.fetchone()[0]
            cursor.execute("SHOW WARNINGS")
            warned = " ".join(str(row[1]) for row in cursor.fetchall())
            told = "answer %s, warned of %s" % (answer, warned or "nothing")
    except pymysql.MySQLError as error:
        told = "error %d" % error.args[0]
    print("%-15s %s: %s%s" % (how, statement.split("SELECT ")[1].split("(")[0], told, "" if time.monotonic() - began < 4 else " late"))


for asked in "SLEEP(5)", "BENCHMARK(4000000000, MD5('a'))", "GET_LOCK('a', 5)":
    ask("after its time", "SET STATEMENT max_statement_time = 0.5 FOR SELECT " + asked)

    def kill():
        with other.cursor() as cursor:
            cursor.execute("KILL QUERY %d" % connection.thread_id())

    killer = threading.Timer(0.5, kill)
    killer.start()
    ask("killed", "SELECT " + asked)
    killer.join()
END
seen=$(venv/bin/python asked.py "$port")

expected=$(cat <<'END'
after its time  SLEEP: error 1969
killed          SLEEP: error 1317
after its time  BENCHMARK: answer 0, warned of 1317
killed          BENCHMARK: answer 0, warned of 1317
after its time  GET_LOCK: answer None, warned of nothing
killed          GET_LOCK: answer None, warned of nothing
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
