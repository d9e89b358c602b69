//! Drivers of databases, against the servers.

use std::time::Duration;

use maniple::{spawn, timeout};
use maniple_drivers::{CALL, CALLS, Server, at_once, at_once_by, on_one_worker};

/// Within it no call comes to its end.
const SHORT: Duration = Duration::from_millis(100);

mod redis_crate {
    use super::*;
    use redis::{Client, Commands, Connection, RedisResult, cmd};

    fn client(server: &Server) -> Client {
        Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap()
    }

    /// Waits for what never comes.
    fn slow(connection: &mut Connection) -> RedisResult<Option<(String, String)>> {
        cmd("BLPOP")
            .arg("nothing")
            .arg(CALL.as_secs_f64())
            .query(connection)
    }

    #[test]
    fn calls_are_at_once() {
        let server = Server::redis();
        let client = client(&server);
        at_once(move |_| assert_eq!(slow(&mut client.get_connection().unwrap()).unwrap(), None));
    }

    #[test]
    fn messages_are_published_and_received() {
        let server = Server::redis();
        let client = client(&server);
        on_one_worker(move || {
            let mut receiver = client.get_connection().unwrap();
            let mut receiver = receiver.as_pubsub();
            receiver.subscribe("news").unwrap();
            let sender = client.clone();
            spawn(move || {
                let mut sender = sender.get_connection().unwrap();
                for number in 0..100 {
                    sender.publish::<_, _, ()>("news", number).unwrap();
                }
            });
            for number in 0..100 {
                let got: i32 = receiver.get_message().unwrap().get_payload().unwrap();
                assert_eq!(got, number);
            }
        });
    }

    #[test]
    fn a_pool_hands_out_no_connection_that_was_cut() {
        let server = Server::redis();
        // With and without a look at each connection that is handed out.
        for looks in [true, false] {
            let pool = r2d2::Pool::builder().max_size(1).test_on_check_out(looks);
            let pool = pool.build(client(&server)).unwrap();
            on_one_worker(move || {
                for round in 0..5 {
                    let cut = timeout(SHORT, || slow(&mut pool.get().unwrap())).unwrap();
                    assert!(cut.unwrap_err().is_timeout());
                    // The answer of the call that was cut is not taken for this one's.
                    let told = loop {
                        let mut connection = pool.get().unwrap();
                        match cmd("ECHO").arg(round).query::<i32>(&mut *connection) {
                            Ok(told) => break told,
                            Err(error) => assert!(!looks, "{error}"),
                        }
                    };
                    assert_eq!(told, round);
                }
            });
        }
    }

    #[test]
    fn a_server_that_dies_in_mid_call_is_an_error() {
        let mut server = Server::redis();
        let client = client(&server);
        on_one_worker(move || {
            let mut connection = client.get_connection().unwrap();
            let call = spawn(move || {
                cmd("BLPOP")
                    .arg("nothing")
                    .arg(60)
                    .query::<()>(&mut connection)
            });
            maniple::sleep(SHORT);
            maniple::offload(move || server.kill()).unwrap();
            assert!(call.join().unwrap().is_err());
            assert!(client.get_connection().is_err());
        });
    }
}

mod mysql_crate {
    use super::*;
    use mysql::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, prelude::Queryable};

    fn settings(server: &Server) -> OptsBuilder {
        let at = OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(server.port);
        at.user(Some("root")).prefer_socket(false)
    }

    fn slow(connection: &mut Conn) -> mysql::Result<Option<u8>> {
        connection.query_first(format!("SELECT SLEEP({})", CALL.as_secs_f64()))
    }

    #[test]
    fn calls_are_at_once() {
        let server = Server::mariadb();
        let settings = Opts::from(settings(&server));
        at_once(move |_| {
            let mut connection = Conn::new(settings.clone()).unwrap();
            assert_eq!(slow(&mut connection).unwrap(), Some(0));
        });
    }

    /// It connects while it holds its own lock, for which a neighbour would block the worker: so the pool is full from
    /// the beginning, and as large as there are calls.
    #[test]
    fn calls_through_its_pool_are_at_once_where_all_get_a_connection() {
        let server = Server::mariadb();
        let limits = PoolConstraints::new(CALLS, CALLS).unwrap();
        let settings = settings(&server).pool_opts(PoolOpts::new().with_constraints(limits));
        let pool = Pool::new(settings).unwrap();
        at_once(move |_| {
            let mut connection = pool.get_conn().unwrap();
            assert_eq!(slow(connection.as_mut()).unwrap(), Some(0));
        });
    }

    #[test]
    fn its_pool_hands_out_no_connection_that_was_cut() {
        let server = Server::mariadb();
        for looks in [true, false] {
            let limits = PoolConstraints::new(1, 1).unwrap();
            let pool = PoolOpts::new()
                .with_constraints(limits)
                .with_check_health(looks);
            let pool = Pool::new(settings(&server).pool_opts(pool)).unwrap();
            on_one_worker(move || {
                for round in 0..5_u32 {
                    let cut = timeout(SHORT, || slow(pool.get_conn().unwrap().as_mut())).unwrap();
                    assert!(cut.is_err());
                    let told = loop {
                        let mut connection = pool.get_conn().unwrap();
                        match connection.query_first::<u32, _>(format!("SELECT {round}")) {
                            Ok(told) => break told,
                            Err(error) => assert!(!looks, "{error}"),
                        }
                    };
                    assert_eq!(told, Some(round));
                }
            });
        }
    }
}

mod memcache_crate {
    use super::*;
    use maniple_drivers::{Carries, Network};
    use memcache::{Client, ConnectionManager, Pool, Url};

    /// The server has no slow call.
    #[test]
    fn calls_are_at_once() {
        let server = Server::memcached();
        let network = Network::before(server.port);
        let at = format!("memcache://127.0.0.1:{}", network.port);
        let pool = Pool::builder()
            .max_size(CALLS as u32)
            .test_on_check_out(false);
        let pool = pool
            .build(ConnectionManager::new(Url::parse(&at).unwrap()))
            .unwrap();
        let client = Client::with_pool(pool).unwrap();
        client.set("key", 42, 0).unwrap();
        network.carry(Carries::Late);
        at_once(move |_| assert_eq!(client.get("key").unwrap(), Some(42)));
    }

    #[test]
    fn calls_are_right_at_once_where_all_get_a_connection() {
        let server = Server::memcached();
        let url = format!("memcache://127.0.0.1:{}?timeout=10", server.port);
        // Its pool is r2d2's: who finds it empty blocks the worker, so there is one for each.
        let client = Client::builder().add_server(url).unwrap();
        let client = client.with_max_pool_size(CALLS as u32).build().unwrap();
        on_one_worker(move || {
            let all: Vec<_> = (0..CALLS as u32)
                .map(|n| {
                    let client = client.clone();
                    spawn(move || {
                        let key = format!("key-{n}");
                        for round in 0..20_u32 {
                            client.set(&key, n * 100 + round, 60).unwrap();
                            assert_eq!(client.get(&key).unwrap(), Some(n * 100 + round));
                        }
                    })
                })
                .collect();
            for one in all {
                one.join().unwrap();
            }
        });
    }
}

mod sqlite {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn on_offload_a_transaction_may_wait_for_another() {
        let folder = std::env::temp_dir().join(format!("maniple-sqlite-{}", std::process::id()));
        let path = folder.clone();
        on_one_worker(move || {
            let open = move || {
                let connection = Connection::open(&path).unwrap();
                connection.busy_timeout(Duration::from_secs(30)).unwrap();
                connection
            };
            open()
                .execute_batch(
                    "CREATE TABLE IF NOT EXISTS counts (n INTEGER); INSERT INTO counts VALUES (0)",
                )
                .unwrap();
            let all: Vec<_> = (0..8)
                .map(|_| {
                    let open = open.clone();
                    spawn(move || {
                        let job = move || {
                            let mut connection = open();
                            for _ in 0..5 {
                                let change = connection
                                    .transaction_with_behavior(
                                        rusqlite::TransactionBehavior::Immediate,
                                    )
                                    .unwrap();
                                change.execute("UPDATE counts SET n = n + 1", ()).unwrap();
                                change.commit().unwrap();
                            }
                        };
                        maniple::offload(job).unwrap();
                    })
                })
                .collect();
            for one in all {
                one.join().unwrap();
            }
            let count: u32 = open()
                .query_row("SELECT n FROM counts", (), |row| row.get(0))
                .unwrap();
            assert_eq!(count, 40);
        });
        std::fs::remove_file(folder).unwrap();
    }

    #[test]
    fn in_a_coroutine_its_busy_handler_lets_the_holder_go_on() {
        let path = std::env::temp_dir().join(format!("maniple-sqlite-busy-{}", std::process::id()));
        let theirs = path.clone();
        on_one_worker(move || {
            let open = || Connection::open(&theirs).unwrap();
            let holder = open();
            holder.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
            let other = open();
            other.busy_timeout(Duration::from_secs(30)).unwrap();
            let waiter = spawn(move || other.execute("INSERT INTO t VALUES (2)", ()).unwrap());
            maniple::sleep(SHORT);
            holder.execute_batch("COMMIT").unwrap();
            assert_eq!(waiter.join().unwrap(), 1);
        });
        std::fs::remove_file(path).unwrap();
    }
}

mod postgresql {
    use super::*;
    use diesel::{Connection, PgConnection, RunQueryDsl, r2d2::ConnectionManager, sql_query};

    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Integer)]
        n: i32,
    }

    fn url(server: &Server) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", server.port)
    }

    fn slow(connection: &mut PgConnection) -> diesel::QueryResult<usize> {
        sql_query(format!("SELECT pg_sleep({})", CALL.as_secs_f64())).execute(connection)
    }

    fn number(connection: &mut PgConnection, n: i32) -> diesel::QueryResult<i32> {
        sql_query(format!("SELECT {n} AS n"))
            .get_result::<Row>(connection)
            .map(|row| row.n)
    }

    #[test]
    fn calls_of_diesel_through_libpq_are_at_once() {
        let server = Server::postgres();
        let url = url(&server);
        at_once(move |_| _ = slow(&mut PgConnection::establish(&url).unwrap()).unwrap());
    }

    #[test]
    fn its_pool_hands_out_no_connection_that_was_cut() {
        let server = Server::postgres();
        for looks in [true, false] {
            let pool = diesel::r2d2::Pool::builder()
                .max_size(1)
                .test_on_check_out(looks);
            let pool = pool
                .build(ConnectionManager::<PgConnection>::new(url(&server)))
                .unwrap();
            on_one_worker(move || {
                for round in 0..5 {
                    let cut = timeout(SHORT, || slow(&mut pool.get().unwrap())).unwrap();
                    assert!(cut.is_err());
                    let told = loop {
                        match number(&mut pool.get().unwrap(), round) {
                            Ok(told) => break told,
                            Err(error) => assert!(!looks, "{error}"),
                        }
                    };
                    assert_eq!(told, round);
                }
            });
        }
    }
}

/// Diesel's other two.
mod diesel_with {
    use super::*;
    use diesel::{
        Connection, MysqlConnection, QueryableByName, RunQueryDsl, SqliteConnection,
        connection::SimpleConnection, sql_query, sql_types::Integer,
    };

    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        n: i32,
    }

    #[test]
    fn mysql_by_the_library_of_mariadb_is_at_once() {
        let server = Server::mariadb();
        let url = format!("mysql://root@127.0.0.1:{}/mysql", server.port);
        at_once(move |n| {
            let mut connection = MysqlConnection::establish(&url).unwrap();
            let asked = format!(
                "SELECT CAST({n} + SLEEP({}) AS INT) AS n",
                CALL.as_secs_f64()
            );
            let row: Row = sql_query(asked).get_result(&mut connection).unwrap();
            assert_eq!(row.n, n as i32);
        });
    }

    #[test]
    fn sqlite_waits_for_anothers_transaction_by_suspending() {
        let path = std::env::temp_dir().join(format!("maniple-diesel-{}", std::process::id()));
        let theirs = path.to_str().unwrap().to_owned();
        on_one_worker(move || {
            let open = || {
                let mut connection = SqliteConnection::establish(&theirs).unwrap();
                connection
                    .batch_execute("PRAGMA busy_timeout = 30000")
                    .unwrap();
                connection
            };
            let mut holder = open();
            holder.batch_execute("CREATE TABLE t (n INTEGER NOT NULL); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").unwrap();
            let mut other = open();
            let waiter = spawn(move || sql_query("INSERT INTO t VALUES (2)").execute(&mut other));
            maniple::sleep(SHORT);
            holder.batch_execute("COMMIT").unwrap();
            assert_eq!(waiter.join().unwrap().unwrap(), 1);
            let row: Row = sql_query("SELECT CAST(SUM(n) AS INTEGER) AS n FROM t")
                .get_result(&mut holder)
                .unwrap();
            assert_eq!(row.n, 3);
        });
        std::fs::remove_file(path).unwrap();
    }
}

/// maniple's own pool, with the managers of r2d2 and one of our own: who waits for a connection suspends.
mod connections {
    use super::*;
    use maniple_parts::connections::{Connections, Manage, R2d2};
    use mysql::prelude::Queryable;

    #[test]
    fn more_callers_than_connections_take_turns_with_redis() {
        let server = Server::redis();
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
        let pool = Connections::builder(R2d2::new(client))
            .max(CALLS / 4)
            .build()
            .unwrap();
        let theirs = pool.clone();
        at_once_by(CALLS, move |_| {
            let mut connection = theirs.get().unwrap();
            let nothing = redis::cmd("BLPOP")
                .arg("nothing")
                .arg(CALL.as_secs_f64() / 4.0)
                .query::<()>(&mut *connection);
            nothing.unwrap();
        });
        assert_eq!(pool.stats().open, CALLS / 4);
    }

    #[test]
    fn no_connection_is_lent_that_was_cut() {
        let server = Server::redis();
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
        on_one_worker(move || {
            let pool = Connections::builder(R2d2::new(client))
                .max(1)
                .check_after(Duration::ZERO)
                .build()
                .unwrap();
            for round in 0..5 {
                let slow = || {
                    redis::cmd("BLPOP")
                        .arg("nothing")
                        .arg(1)
                        .query::<()>(&mut *pool.get().unwrap())
                };
                assert!(timeout(SHORT, slow).unwrap().is_err());
                let told: i32 = redis::cmd("ECHO")
                    .arg(round)
                    .query(&mut *pool.get().unwrap())
                    .unwrap();
                assert_eq!(told, round);
            }
        });
    }

    struct MySql(mysql::Opts);

    impl Manage for MySql {
        type Connection = mysql::Conn;
        type Error = mysql::Error;

        fn connect(&self) -> mysql::Result<mysql::Conn> {
            mysql::Conn::new(self.0.clone())
        }

        fn check(&self, connection: &mut mysql::Conn) -> mysql::Result<()> {
            connection.ping()
        }

        fn is_broken(&self, _: &mut mysql::Conn) -> bool {
            false
        }
    }

    #[test]
    fn more_callers_than_connections_take_turns_with_mysql() {
        let server = Server::mariadb();
        let at = mysql::OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(server.port);
        let at = at.user(Some("root")).prefer_socket(false);
        let pool = Connections::builder(MySql(at.into()))
            .max(CALLS / 4)
            .build()
            .unwrap();
        at_once_by(CALLS, move |n| {
            let mut connection = pool.get().unwrap();
            let asked = format!("SELECT {n} + SLEEP({})", CALL.as_secs_f64() / 4.0);
            assert_eq!(
                connection.query_first::<f64, _>(asked).unwrap(),
                Some(n as f64)
            );
        });
    }
}
