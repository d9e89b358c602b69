//! Drivers, and what their servers are asked: for a number, at once or after a while.

use diesel::{Connection as _, RunQueryDsl, sql_query, sql_types::Integer};
use maniple_drivers::{CALL, Server};
use mysql::prelude::Queryable;

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// The number back.
    Number(i32),
    /// The number back, after the time of a call.
    Late(i32),
}

pub type Connection = Box<dyn FnMut(Ask) -> Result<i32, String> + Send>;

/// A driver and its server.
pub struct Driver {
    pub name: &'static str,
    pub server: fn() -> Server,
    pub connect: fn(u16) -> Result<Connection, String>,
}

pub const DRIVERS: [Driver; 4] = [
    Driver {
        name: "redis",
        server: Server::redis,
        connect: redis_at,
    },
    Driver {
        name: "mysql",
        server: Server::mariadb,
        connect: mysql_at,
    },
    Driver {
        name: "diesel with PostgreSQL",
        server: Server::postgres,
        connect: postgres_at,
    },
    Driver {
        name: "diesel with MariaDB",
        server: Server::mariadb,
        connect: diesel_mysql_at,
    },
];

pub fn told<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

fn redis_at(port: u16) -> Result<Connection, String> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).map_err(told)?;
    let mut connection = client.get_connection().map_err(told)?;
    Ok(Box::new(move |ask| {
        redis_ask(&mut connection, ask).map_err(told)
    }))
}

/// A script that waits would keep all others from the server: the list is empty for as long as the call takes.
pub fn redis_ask(connection: &mut redis::Connection, ask: Ask) -> redis::RedisResult<i32> {
    let number = match ask {
        Ask::Number(number) => number,
        Ask::Late(number) => {
            let mut wait = redis::cmd("BLPOP");
            wait.arg("nothing")
                .arg(CALL.as_secs_f64())
                .query::<()>(connection)?;
            number
        }
    };
    redis::cmd("ECHO").arg(number).query(connection)
}

pub fn mysql_settings(port: u16) -> mysql::OptsBuilder {
    let at = mysql::OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port);
    at.user(Some("root")).prefer_socket(false)
}

fn mysql_at(port: u16) -> Result<Connection, String> {
    let mut connection = mysql::Conn::new(mysql_settings(port)).map_err(told)?;
    Ok(Box::new(move |ask| {
        mysql_ask(&mut connection, ask).map_err(told)
    }))
}

pub fn mysql_ask(connection: &mut mysql::Conn, ask: Ask) -> mysql::Result<i32> {
    let asked = match ask {
        Ask::Number(number) => format!("SELECT {number}"),
        Ask::Late(number) => format!("SELECT {number} + SLEEP({})", CALL.as_secs_f64()),
    };
    let told: Option<f64> = connection.query_first(asked)?;
    Ok(told.unwrap_or(-1.0) as i32)
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    n: i32,
}

fn postgres_at(port: u16) -> Result<Connection, String> {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let mut connection = diesel::PgConnection::establish(&url).map_err(told)?;
    Ok(Box::new(move |ask| {
        postgres_ask(&mut connection, ask).map_err(told)
    }))
}

pub fn postgres_ask(connection: &mut diesel::PgConnection, ask: Ask) -> diesel::QueryResult<i32> {
    let asked = match ask {
        Ask::Number(number) => format!("SELECT {number} AS n"),
        Ask::Late(number) => {
            format!("SELECT {number} AS n FROM pg_sleep({})", CALL.as_secs_f64())
        }
    };
    sql_query(asked)
        .get_result::<Row>(connection)
        .map(|row| row.n)
}

pub fn diesel_mysql_url(port: u16) -> String {
    format!("mysql://root@127.0.0.1:{port}/mysql")
}

fn diesel_mysql_at(port: u16) -> Result<Connection, String> {
    let mut connection =
        diesel::MysqlConnection::establish(&diesel_mysql_url(port)).map_err(told)?;
    Ok(Box::new(move |ask| {
        diesel_mysql_ask(&mut connection, ask).map_err(told)
    }))
}

pub fn diesel_mysql_ask(
    connection: &mut diesel::MysqlConnection,
    ask: Ask,
) -> diesel::QueryResult<i32> {
    let asked = match ask {
        Ask::Number(number) => format!("SELECT CAST({number} AS INT) AS n"),
        Ask::Late(number) => {
            format!(
                "SELECT CAST({number} + SLEEP({}) AS INT) AS n",
                CALL.as_secs_f64()
            )
        }
    };
    sql_query(asked)
        .get_result::<Row>(connection)
        .map(|row| row.n)
}
