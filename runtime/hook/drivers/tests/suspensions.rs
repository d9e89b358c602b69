//! A cancellation at every suspension within a driver: connecting, asking, taking from a pool. With the feature
//! `faults`.

use std::time::Duration;

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

/// The same with what has connections of its own, kept for the next: none of those that it had is used again once its
/// call was cut.
fn cut_in_its_own_pool<C: Send>(
    client: impl Fn() -> C + Send + Sync,
    ask: impl Fn(&mut C, i32) -> Result<i32, String> + Send + Sync,
) {
    maniple_hook::install().unwrap();
    let suspensions = at_every_suspension(|number| {
        let mut client = client();
        let (told, was_cut) = cancel_at(number, || {
            for n in 0..3 {
                assert_eq!(ask(&mut client, n)?, n);
            }
            Ok::<_, String>(())
        });
        assert_eq!(
            was_cut,
            !matches!(told, Ok(Ok(()))),
            "cut at {number}: {told:?}"
        );
        // Some may have an error, and that some time.
        let mut nexts = std::iter::repeat_with(|| ask(&mut client, 30));
        let told = nexts.find_map(Result::ok);
        assert_eq!(told, Some(30), "cut at {number}");
        assert_eq!(ask(&mut client, 31), Ok(31), "cut at {number}");
        was_cut
    });
    println!("{suspensions} suspensions");
    assert!(suspensions >= 3, "{suspensions}");
}

fn told<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// The number that a path is made of.
fn number_of(path: &str) -> i32 {
    path.trim_start_matches('/').parse().unwrap()
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
        Ok(number_of(&told))
    });
}

#[test]
fn attohttpc_and_minreq_are_cut_anywhere() {
    let server = Server::http();
    let at = format!("http://127.0.0.1:{}/", slowly_to(server.port));
    cut_everywhere(
        || Ok::<_, attohttpc::Error>(()),
        |(), n| {
            Ok(number_of(
                &attohttpc::get(format!("{at}{n}")).send()?.text()?,
            ))
        },
    );
    cut_everywhere(
        || Ok::<_, minreq::Error>(()),
        |(), n| Ok(number_of(minreq::get(format!("{at}{n}")).send()?.as_str()?)),
    );
}

#[test]
fn curl_is_cut_anywhere() {
    let server = Server::http();
    let at = format!("http://127.0.0.1:{}/", slowly_to(server.port));
    cut_in_its_own_pool(curl::easy::Easy::new, |call, n| {
        let mut body = Vec::new();
        call.url(&format!("{at}{n}")).map_err(told)?;
        let mut transfer = call.transfer();
        let take = |bytes: &[u8]| {
            body.extend_from_slice(bytes);
            Ok(bytes.len())
        };
        transfer.write_function(take).map_err(told)?;
        transfer.perform().map_err(told)?;
        drop(transfer);
        Ok(number_of(&String::from_utf8(body).unwrap()))
    });
}

#[test]
fn lettre_is_cut_anywhere() {
    use lettre::{Message, SmtpTransport, Transport};
    let server = Server::mail();
    let port = slowly_to(server.port);
    let transport = || {
        SmtpTransport::builder_dangerous("127.0.0.1")
            .port(port)
            .build()
    };
    cut_in_its_own_pool(transport, |transport, n| {
        let mail = Message::builder()
            .from("a@example.com".parse().unwrap())
            .to("b@example.com".parse().unwrap());
        let mail = mail
            .subject(n.to_string())
            .body("hello".to_owned())
            .unwrap();
        let told_by_server = transport.send(&mail).map_err(told)?;
        Ok(number_of(told_by_server.first_line().unwrap_or_default()))
    });
}

/// Its pool is `r2d2`'s, and looks at each connection that it hands out: for one who is cut there, at one new
/// connection after another, for as long as it may take.
#[test]
fn memcache_is_cut_anywhere() {
    use memcache::{Client, ConnectionManager, Pool, Url};
    let server = Server::memcached();
    let at = format!("memcache://127.0.0.1:{}", slowly_to(server.port));
    let client = || {
        let pool = Pool::builder().max_size(1).test_on_check_out(true);
        let pool = pool.connection_timeout(Duration::from_millis(200));
        let manager = ConnectionManager::new(Url::parse(&at).unwrap());
        Client::with_pool(pool.build(manager).unwrap()).unwrap()
    };
    cut_in_its_own_pool(client, |client, n| {
        client.set("key", n, 0).map_err(told)?;
        client
            .get("key")
            .map_err(told)?
            .ok_or_else(|| "it is gone".to_owned())
    });
}

#[test]
fn tungstenite_is_cut_anywhere() {
    let server = Server::websocket();
    let at = format!("ws://127.0.0.1:{}/", slowly_to(server.port));
    cut_everywhere(
        || tungstenite::connect(&at).map(|(socket, _)| socket),
        |socket, n| {
            socket.send(n.to_string().into())?;
            Ok(number_of(socket.read()?.to_text()?))
        },
    );
}
