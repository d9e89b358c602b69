#!/usr/bin/env bash
# COMMIT of a failed PostgreSQL transaction succeeds, with the tag ROLLBACK; most drivers' commit() says nothing of it.
#
# Version    PostgreSQL 15 (Debian 12); psycopg 3.3.9, psycopg2 2.9.13, asyncpg 0.32.0, SQLAlchemy 2.1.9, pg8000 1.31.6, pg 8.23.1, postgres 3.4.9 (npm),
#            postgres 0.19.14 (Rust).
# Behaviour  A row is inserted, a second statement fails, the program handles that error and commits. The server rolls back, and answers with success. commit()
#            of psycopg, psycopg2, asyncpg and Rust's postgres returns, the blocks of psycopg, asyncpg and SQLAlchemy end as if all was well, and the first row is not there.
#            pg8000 raises; postgres.js ends its block with the error that was caught; pg shows the tag to those who look at it.
# Guess      commit() returns when the data is stored, and raises when it is not.
# Matters    "Insert, and if it exists already, go on" loses everything before it, with no error in sight, and the caller is answered 200. A driver has the tag
#            at hand and should raise. Until then: a savepoint around what may fail, or look at the status of the transaction before the commit.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 900 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
which node >/dev/null
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
[ "$bin" ] || apt-get install --quiet=2 --yes --no-install-recommends postgresql >/dev/null 2>&1
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9' psycopg2-binary==2.9.13 asyncpg==0.32.0 pg8000==1.31.6 SQLAlchemy==2.1.9
npm init -y >/dev/null
npm install --silent --no-audit --no-fund pg@8.23.1 postgres@3.4.9 >/dev/null

# The server does not run as root.
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
port=$(free)
chmod 755 .
mkdir server
[ "$(id -u)" != 0 ] || chown postgres server
"${as[@]}" "$bin/initdb" -D server/data -A trust -U postgres -E UTF8 --no-locale >/dev/null
trap '"${as[@]}" "$bin/pg_ctl" -D "$work/server/data" -m immediate stop >/dev/null || true; rm -rf "$work"' EXIT
"${as[@]}" "$bin/pg_ctl" -D "$work/server/data" -l "$work/server/log" -w start >/dev/null \
    -o "-p $port -k $work/server -c listen_addresses=127.0.0.1 -c fsync=off"
export PORT=$port

cat >asked.py <<'END'
import asyncio, os
import asyncpg, pg8000.dbapi, psycopg, psycopg2, sqlalchemy

WHERE = dict(host="127.0.0.1", port=int(os.environ["PORT"]), user="postgres")
INSERT = "insert into t values (1)"


def tell(name, end, rows):
    try:
        end()
        told = "no error"
    except Exception as error:
        told = type(error).__name__
    print("%-22s %-14s rows %d" % (name, told, rows()))


with psycopg.connect(**WHERE) as setting:
    setting.execute("create table t (a int primary key)")
for driver in psycopg, psycopg2, pg8000.dbapi:
    connection = driver.connect(**WHERE)
    cursor = connection.cursor()
    cursor.execute(INSERT)
    try:
        cursor.execute(INSERT)
    except driver.DatabaseError:
        pass

    def rows():
        cursor.execute("select count(*) from t")
        return cursor.fetchone()[0]

    tell(driver.__name__ + " commit", connection.commit, rows)
    connection.close()

connection = psycopg.connect(**WHERE)


def block():
    with connection.transaction():
        connection.execute(INSERT)
        try:
            connection.execute(INSERT)
        except psycopg.DatabaseError:
            pass


tell("psycopg block", block, lambda: connection.execute("select count(*) from t").fetchone()[0])
connection.close()

connection = sqlalchemy.create_engine("postgresql+psycopg://postgres@127.0.0.1:%d/postgres" % WHERE["port"]).connect()


def block():
    with connection.begin():
        connection.execute(sqlalchemy.text(INSERT))
        try:
            connection.execute(sqlalchemy.text(INSERT))
        except sqlalchemy.exc.DatabaseError:
            pass


tell("SQLAlchemy block", block, lambda: connection.execute(sqlalchemy.text("select count(*) from t")).scalar())
connection.close()


async def asked():
    connection = await asyncpg.connect(**WHERE)
    for end in "commit", "block":
        told = "no error"
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(INSERT)
            try:
                await connection.execute(INSERT)
            except asyncpg.PostgresError:
                pass
            await (transaction.commit() if end == "commit" else transaction.__aexit__(None, None, None))
        except Exception as error:
            told = type(error).__name__
        print("%-22s %-14s rows %d" % ("asyncpg " + end, told, await connection.fetchval("select count(*) from t")))


asyncio.run(asked())
END
cat >asked.js <<'END'
const { Client } = require("pg");
const postgres = require("postgres");
const where = { host: "127.0.0.1", port: process.env.PORT, user: "postgres", database: "postgres" };
const tell = (name, told, rows) => console.log("%s %s rows %s", name.padEnd(22), told.padEnd(14), rows[0].count);
(async () => {
  const client = new Client(where);
  await client.connect();
  await client.query("begin");
  await client.query("insert into t values (1)");
  await client.query("insert into t values (1)").catch(() => {});
  const told = await client.query("commit").then((answer) => answer.command, (error) => error.name);
  tell("pg commit", told, (await client.query("select count(*) from t")).rows);
  await client.end();
  const sql = postgres(where);
  const block = sql.begin(async (sql) => {
    await sql`insert into t values (1)`;
    await sql`insert into t values (1)`.catch(() => {});
  });
  tell("postgres.js block", await block.then(() => "no error", (error) => error.name), await sql`select count(*) from t`);
  await sql.end();
})();
END
mkdir src
cat >Cargo.toml <<'END'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"
[dependencies]
postgres = "=0.19.14"
END
cat >src/main.rs <<'END'
use postgres::{Client, NoTls};

fn main() {
    let port = std::env::var("PORT").unwrap();
    let mut client = Client::connect(&format!("host=127.0.0.1 port={port} user=postgres"), NoTls).unwrap();
    let mut transaction = client.transaction().unwrap();
    transaction.execute("insert into t values (1)", &[]).unwrap();
    transaction.execute("insert into t values (1)", &[]).unwrap_err();
    let told = transaction.commit();
    let rows: i64 = client.query_one("select count(*) from t", &[]).unwrap().get(0);
    println!("{:22} {:14} rows {rows}", "postgres (Rust)", format!("{told:?}"));
}
END
export CARGO_TARGET_DIR="$work/target"
cargo build --quiet
seen=$(venv/bin/python asked.py && node asked.js && "$work/target/debug/probe")

expected=$(cat <<'END'
psycopg commit         no error       rows 0
psycopg2 commit        no error       rows 0
pg8000.dbapi commit    InterfaceError rows 0
psycopg block          no error       rows 0
SQLAlchemy block       no error       rows 0
asyncpg commit         no error       rows 0
asyncpg block          no error       rows 0
pg commit              ROLLBACK       rows 0
postgres.js block      PostgresError  rows 0
postgres (Rust)        Ok(())         rows 0
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
