//! A cancellation at every suspension within a driver: connecting, asking, taking from a pool. With the feature
//! `faults`.

use diesel::{Connection, RunQueryDsl, sql_query, sql_types::Integer};
use maniple::cancel::{at_every_suspension, cancel_at};
use maniple_drivers::{Carries, Network, Server};
use maniple_parts::connections::{Connections, R2d2};
use mysql::prelude::Queryable;

/// Asks with what `connect` makes, cut at each suspension; what is left of it answers rightly, or not at all, and the
/// server goes on.
fn cut_everywhere<C, E>(
    connect: impl Fn() -> Result<C, E> + Send + Sync,
    ask: impl Fn(&mut C, i32) -> Result<i32, E> + Send + Sync,
) where
    E: std::fmt::Debug,
{
    maniple_hook::install().unwrap();
    let suspensions = at_every_suspension(|number| {
        let mut left = None;
        let (_, was_cut) = cancel_at(number, || {
            let connection = left.insert(connect()?);
            for n in 0..3 {
                assert_eq!(ask(connection, n)?, n);
            }
            Ok::<_, E>(())
        });
        if let Some(mut connection) = left {
            for n in 10..13 {
                if let Ok(told) = ask(&mut connection, n) {
                    assert_eq!(told, n, "cut at {number}");
                }
            }
        }
        let mut other = connect().unwrap();
        assert_eq!(ask(&mut other, 20).unwrap(), 20);
        was_cut
    });
    println!("{suspensions} suspensions");
    assert!(suspensions >= 3, "{suspensions}");
}

/// The same with a connection that is lent by a pool of one.
fn cut_in_a_pool<M>(
    manager: impl Fn() -> M + Send + Sync,
    ask: impl Fn(&mut M::Connection, i32) -> Result<i32, String> + Send + Sync,
) where
    M: r2d2::ManageConnection,
{
    maniple_hook::install().unwrap();
    let suspensions = at_every_suspension(|number| {
        let pool = Connections::builder(R2d2::new(manager()))
            .max(1)
            .build()
            .unwrap();
        let call = |n| {
            let mut connection = pool.get().map_err(|error| error.to_string())?;
            ask(&mut connection, n)
        };
        assert_eq!(call(1), Ok(1));
        let (_, was_cut) = cancel_at(number, || {
            for n in 2..5 {
                assert_eq!(call(n)?, n);
            }
            Ok::<_, String>(())
        });
        let told = (0..10).find_map(|_| call(30).ok());
        assert_eq!(told, Some(30), "cut at {number}");
        was_cut
    });
    println!("{suspensions} suspensions");
    assert!(suspensions >= 3, "{suspensions}");
}

/// The way to the server on that port, on which answers take a while, so that each is waited for.
fn slowly_to(port: u16) -> u16 {
    let network = Network::before(port);
    network.carry(Carries::Later);
    network.port
}

fn echo(connection: &mut redis::Connection, n: i32) -> redis::RedisResult<i32> {
    redis::cmd("ECHO").arg(n).query(connection)
}

#[test]
fn redis_is_cut_anywhere() {
    let server = Server::redis();
    let client =
        redis::Client::open(format!("redis://127.0.0.1:{}/", slowly_to(server.port))).unwrap();
    cut_everywhere(|| client.get_connection(), echo);
    cut_in_a_pool(
        || client.clone(),
        |connection, n| echo(connection, n).map_err(|error| error.to_string()),
    );
}

fn number(connection: &mut mysql::Conn, n: i32) -> mysql::Result<i32> {
    connection.exec_first("SELECT ?", (n,)).map(Option::unwrap)
}

#[test]
fn mysql_is_cut_anywhere() {
    let server = Server::mariadb();
    let at = mysql::OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(slowly_to(server.port));
    let at = at.user(Some("root")).prefer_socket(false);
    cut_everywhere(|| mysql::Conn::new(at.clone()), number);
    cut_in_a_pool(
        || r2d2_mysql::MySqlConnectionManager::new(at.clone()),
        |connection, n| number(connection, n).map_err(|error| error.to_string()),
    );
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    n: i32,
}

#[test]
fn diesel_is_cut_anywhere() {
    let server = Server::postgres();
    let at = format!(
        "postgres://postgres@127.0.0.1:{}/postgres",
        slowly_to(server.port)
    );
    let told = |error: diesel::result::Error| error.to_string();
    let ask = |connection: &mut diesel::PgConnection, n: i32| {
        let asked = sql_query("SELECT $1 AS n").bind::<Integer, _>(n);
        asked
            .get_result::<Row>(connection)
            .map(|row| row.n)
            .map_err(told)
    };
    cut_everywhere(
        || diesel::PgConnection::establish(&at).map_err(|error| error.to_string()),
        ask,
    );
    cut_in_a_pool(
        || diesel::r2d2::ConnectionManager::<diesel::PgConnection>::new(&at),
        ask,
    );
    let server = Server::mariadb();
    let at = format!("mysql://root@127.0.0.1:{}/mysql", slowly_to(server.port));
    cut_everywhere(
        || diesel::MysqlConnection::establish(&at).map_err(|error| error.to_string()),
        |connection, n| {
            let asked = sql_query(format!("SELECT CAST({n} AS INT) AS n"));
            asked
                .get_result::<Row>(connection)
                .map(|row| row.n)
                .map_err(told)
        },
    );
}

#[test]
fn ureq_is_cut_anywhere() {
    let server = Server::http();
    let at = format!("http://127.0.0.1:{}/", slowly_to(server.port));
    let connect = || Ok::<_, ureq::Error>(ureq::Agent::new_with_defaults());
    cut_everywhere(connect, |agent, n| {
        let mut told = agent.get(format!("{at}{n}")).call()?;
        let told = told.body_mut().read_to_string()?;
        Ok(told.trim_start_matches('/').parse().unwrap())
    });
}
