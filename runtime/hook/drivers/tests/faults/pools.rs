//! r2d2 with a manager for each database, where more callers than connections take turns: on `offload`, or behind as
//! many permits of ours as it has connections.

use std::{sync::Arc, thread};

use maniple::{offload, sync::Semaphore};
use maniple_drivers::{CALL, CALLS, Cut, Server, at_once, on_one_worker};
use r2d2::{ManageConnection, Pool};

use super::{
    SHORT,
    asked::{
        Ask, diesel_mysql_ask, diesel_mysql_url, mysql_ask, mysql_settings, postgres_ask,
        redis_ask, told,
    },
};

type Asks<C> = fn(&mut C, Ask) -> Result<i32, String>;

/// A coroutine's call by a pool of that crate: taken, used and given back in one job.
fn offloaded<M: ManageConnection>(
    pool: &Pool<M>,
    ask: Asks<M::Connection>,
    what: Ask,
) -> Result<i32, String> {
    let pool = pool.clone();
    let job = move || ask(&mut *pool.get().map_err(told)?, what);
    offload(job).map_err(told)?
}

/// Half as many connections as callers: all have their answer after the time of two calls. Of those whose call is
/// left behind, the connection stays with the job to its end, and whoever has it next gets his own answer.
fn serves_on_offload<M: ManageConnection>(manager: impl Fn() -> M, ask: Asks<M::Connection>) {
    let pool = Pool::builder()
        .max_size(CALLS as u32 / 2)
        .build(manager())
        .unwrap();
    let theirs = pool.clone();
    at_once(move |n| {
        assert_eq!(offloaded(&theirs, ask, Ask::Late(n as i32)), Ok(n as i32));
    });
    let pool = Pool::builder().max_size(1).build(manager()).unwrap();
    on_one_worker(|| {
        for (cut, round) in Cut::ALL.into_iter().zip(1..) {
            cut.after(SHORT, || offloaded(&pool, ask, Ask::Late(100)));
            assert_eq!(pool.state().idle_connections, 0, "{cut:?}: the job has it");
            assert_eq!(offloaded(&pool, ask, Ask::Number(round)), Ok(round));
        }
    });
}

/// The same in the coroutines themselves, whose calls are hooked.
fn serves_behind_permits<M: ManageConnection>(manager: M, ask: Asks<M::Connection>) {
    const CONNECTIONS: usize = CALLS / 2;
    let pool = Pool::builder().max_size(CONNECTIONS as u32);
    let pool = pool.test_on_check_out(false).build(manager).unwrap();
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    at_once(move |n| {
        let _permit = permits.acquire().unwrap();
        let told = ask(&mut pool.get().unwrap(), Ask::Late(n as i32));
        assert_eq!(told, Ok(n as i32));
    });
}

#[test]
fn r2d2_serves_callers_of_redis() {
    let server = Server::redis();
    let at = format!("redis://127.0.0.1:{}/", server.port);
    let manager = || redis::Client::open(at.clone()).unwrap();
    serves_on_offload(manager, |connection, ask| {
        redis_ask(connection, ask).map_err(told)
    });
    serves_behind_permits(manager(), |connection, ask| {
        redis_ask(connection, ask).map_err(told)
    });
}

#[test]
fn r2d2_serves_callers_of_mysql_and_of_diesel() {
    let server = Server::mariadb();
    let at = mysql_settings(server.port);
    let manager = || r2d2_mysql::MySqlConnectionManager::new(at.clone());
    serves_on_offload(manager, |connection, ask| {
        mysql_ask(connection, ask).map_err(told)
    });
    serves_behind_permits(manager(), |connection, ask| {
        mysql_ask(connection, ask).map_err(told)
    });
    let at = diesel_mysql_url(server.port);
    let manager = diesel::r2d2::ConnectionManager::<diesel::MysqlConnection>::new(at);
    serves_behind_permits(manager, |connection, ask| {
        diesel_mysql_ask(connection, ask).map_err(told)
    });
}

#[test]
fn r2d2_serves_callers_of_postgres_and_of_diesel() {
    let server = Server::postgres();
    let at = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let manager =
        || r2d2_postgres::PostgresConnectionManager::new(at.parse().unwrap(), postgres::NoTls);
    serves_on_offload(manager, |connection, ask| {
        let (number, seconds) = match ask {
            Ask::Number(number) => (number, 0.0),
            Ask::Late(number) => (number, CALL.as_secs_f64()),
        };
        let asked = format!("SELECT $1::INT FROM pg_sleep({seconds})");
        let row = connection.query_one(&asked, &[&number]).map_err(told)?;
        Ok(row.get(0))
    });
    let manager = diesel::r2d2::ConnectionManager::<diesel::PgConnection>::new(at);
    serves_behind_permits(manager, |connection, ask| {
        postgres_ask(connection, ask).map_err(told)
    });
}

/// It has no slow call: a job takes its time in the middle of a transaction.
#[test]
fn r2d2_serves_callers_of_sqlite() {
    let path = std::env::temp_dir().join(format!("maniple-r2d2-{}", std::process::id()));
    let made = rusqlite::Connection::open(&path).unwrap();
    made.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
    let manager = || r2d2_sqlite::SqliteConnectionManager::file(&path);
    serves_on_offload(manager, |connection, ask| {
        let change = connection.transaction().map_err(told)?;
        let number = match ask {
            Ask::Number(number) => number,
            Ask::Late(number) => {
                change
                    .query_row("SELECT COUNT(*) FROM t", (), |row| row.get::<_, i64>(0))
                    .map_err(told)?;
                thread::sleep(CALL);
                number
            }
        };
        let told = change.query_row("SELECT ?1", [number], |row| row.get(0));
        told.map_err(|error| error.to_string())
    });
    std::fs::remove_file(path).unwrap();
}
