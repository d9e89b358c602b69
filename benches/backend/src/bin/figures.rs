//! A thousand calls at once on one worker, and small queries, each beside the same driver on a thread for each
//! connection. `cargo run --release --bin figures`, in `benches/backend`, with the servers of Debian.

use std::{
    error::Error,
    sync::{
        Barrier, Once,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection as _, PgConnection, RunQueryDsl, sql_query};
use maniple::{Runtime, group};
use maniple_drivers::Server;
use mysql::prelude::Queryable;

/// Calls at once.
const CALLS: usize = 1000;
/// How long the server takes for a slow one.
const SLOW: Duration = Duration::from_millis(200);
/// Connections that ask for little.
const CONNECTIONS: usize = 64;
/// What each of them asks.
const QUERIES: usize = 1000;
/// Each figure is the best of so many.
const TRIES: usize = 3;
/// A worker that is kept for so long is named.
const STALL: Duration = Duration::from_millis(100);

/// A connection: what it asks that is slow, and what is not.
struct Connection {
    call: Box<dyn FnMut(bool) -> Result<(), Box<dyn Error>> + Send>,
}

fn redis_at(port: u16) -> Connection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    let call = move |slow| -> Result<(), Box<dyn Error>> {
        match slow {
            true => redis::cmd("BLPOP")
                .arg("nothing")
                .arg(SLOW.as_secs_f64())
                .query::<()>(&mut connection)?,
            false => redis::cmd("GET")
                .arg("nothing")
                .query::<()>(&mut connection)?,
        }
        Ok(())
    };
    Connection {
        call: Box::new(call),
    }
}

fn mysql_at(port: u16) -> Connection {
    let at = mysql::OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port);
    let at = at.user(Some("root")).prefer_socket(false);
    let mut connection = mysql::Conn::new(at).expect("a connection");
    let call = move |slow| -> Result<(), Box<dyn Error>> {
        match slow {
            true => connection.query_drop(format!("SELECT SLEEP({})", SLOW.as_secs_f64()))?,
            false => connection.query_drop("SELECT 1")?,
        }
        Ok(())
    };
    Connection {
        call: Box::new(call),
    }
}

fn postgres_at(port: u16) -> Connection {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let mut connection = PgConnection::establish(&url).expect("a connection");
    let slow_one = format!("SELECT pg_sleep({})", SLOW.as_secs_f64());
    let call = move |slow| -> Result<(), Box<dyn Error>> {
        match slow {
            true => sql_query(&slow_one).execute(&mut connection)?,
            false => sql_query("SELECT 1").execute(&mut connection)?,
        };
        Ok(())
    };
    Connection {
        call: Box::new(call),
    }
}

fn main() {
    maniple_hook::install!();
    listen_to_the_watch();
    let only = std::env::args().nth(1);
    println!("| | threads | one worker | |\n|---|--:|--:|--:|");
    for (name, start, connect) in [
        (
            "`redis`, `BLPOP`",
            Server::redis as fn() -> Server,
            redis_at as fn(u16) -> Connection,
        ),
        ("`diesel`, `pg_sleep`", Server::postgres, postgres_at),
        ("`mysql`, `SLEEP`", Server::mariadb, mysql_at),
    ] {
        if only
            .as_ref()
            .is_some_and(|only| !name.contains(only.as_str()))
        {
            continue;
        }
        let server = start();
        let mut all: Vec<_> = (0..CALLS).map(|_| connect(server.port)).collect();
        let (mut threads, mut worker) = (Duration::MAX, Duration::MAX);
        let stalls = STALLS.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            threads = threads.min(on_threads(&mut all, 1, true).0);
            worker = worker.min(on_one_worker(&mut all, 1, true).0);
        }
        let stalls = STALLS.load(Ordering::Relaxed) - stalls;
        let factor = worker.as_secs_f64() / threads.as_secs_f64();
        println!(
            "| {name}: {CALLS} calls of {SLOW:?} at once, ms | {} | {} | {factor:.2} ×, {stalls} stalls |",
            threads.as_millis(),
            worker.as_millis()
        );
        all.truncate(CONNECTIONS);
        let (mut threads, mut worker) = (Duration::MAX, Duration::MAX);
        for _ in 0..TRIES {
            threads = threads.min(on_threads(&mut all, QUERIES, false).1);
            worker = worker.min(on_one_worker(&mut all, QUERIES, false).1);
        }
        let each =
            |used: Duration| used.as_nanos() as f64 / (CONNECTIONS * QUERIES) as f64 / 1000.0;
        let factor = worker.as_secs_f64() / threads.as_secs_f64();
        println!(
            "| the same driver: processor time of a small query, µs | {:.1} | {:.1} | {factor:.2} × |",
            each(threads),
            each(worker)
        );
    }
}

/// How long it takes, and the processor's time.
fn on_threads(all: &mut [Connection], times: usize, slow: bool) -> (Duration, Duration) {
    let start = Barrier::new(all.len() + 1);
    thread::scope(|scope| {
        for connection in all {
            let start = &start;
            let run = move || {
                start.wait();
                (0..times).for_each(|_| (connection.call)(slow).expect("an answer"));
            };
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, run)
                .expect("a thread");
        }
        start.wait();
        let before = (Instant::now(), used());
        move || (before.0.elapsed(), used() - before.1)
    })()
}

fn on_one_worker(all: &mut [Connection], times: usize, slow: bool) -> (Duration, Duration) {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    runtime.run(|| {
        let _watch = maniple::inspect::watch_stalls(STALL).expect("it watches");
        let before = (Instant::now(), used());
        group(|group| {
            for connection in all {
                group.spawn(move || {
                    (0..times).for_each(|_| (connection.call)(slow).expect("an answer"))
                });
            }
            Ok::<_, std::convert::Infallible>(())
        })
        .expect("all end");
        (before.0.elapsed(), used() - before.1)
    })
}

/// The processor's time that the process has used.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

static STALLS: AtomicUsize = AtomicUsize::new(0);

fn listen_to_the_watch() {
    struct Listener;
    impl log::Log for Listener {
        fn enabled(&self, of: &log::Metadata<'_>) -> bool {
            of.target() == "maniple::stall"
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                STALLS.fetch_add(1, Ordering::Relaxed);
                eprintln!("{}", record.args());
            }
        }
        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_boxed_logger(Box::new(Listener)).expect("no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
}
