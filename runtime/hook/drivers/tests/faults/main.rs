//! Servers that die, networks that fail, pools that are empty, signals: what drivers make of it on one worker.

mod asked;
mod pools;
mod stopped;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use asked::{
    Ask, DRIVERS, diesel_mysql_ask, diesel_mysql_url, mysql_ask, mysql_settings, postgres_ask,
    redis_ask, told,
};
use maniple::{spawn, timeout};
use maniple_drivers::{Carries, Cut, Network, Server, on_one_worker};
use maniple_parts::connections::{Connections, Manage, R2d2};

/// Within it no slow call comes to its end.
const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_server_that_dies_in_mid_query_is_an_error_and_no_hang() {
    for driver in DRIVERS {
        let mut server = (driver.server)();
        on_one_worker(move || {
            let mut connection = (driver.connect)(server.port).unwrap();
            assert_eq!(connection(Ask::Number(7)), Ok(7), "{}", driver.name);
            let (begun, asks) = maniple::sync::oneshot::channel();
            let call = spawn(move || {
                begun.send(()).unwrap();
                connection(Ask::Late(1))
            });
            asks.recv().unwrap();
            maniple::sleep(SHORT / 2);
            let port = server.port;
            maniple::offload(move || server.kill()).unwrap();
            assert!(call.join().unwrap().is_err(), "{}", driver.name);
            assert!((driver.connect)(port).is_err(), "{}", driver.name);
        });
    }
}

#[test]
fn a_network_that_is_cut_and_comes_back_gives_nobody_anothers_answer() {
    for driver in DRIVERS {
        let server = (driver.server)();
        let network = Network::before(server.port);
        on_one_worker(move || {
            for round in 0..3 {
                let mut connection = (driver.connect)(network.port).unwrap();
                assert_eq!(connection(Ask::Number(round)), Ok(round), "{}", driver.name);
                network.carry(Carries::Nothing);
                let cut = timeout(SHORT, || connection(Ask::Number(100 + round)));
                assert!(cut.unwrap().is_err(), "{}", driver.name);
                network.carry(Carries::All);
                // What was kept comes now.
                let next = connection(Ask::Number(200 + round));
                assert!(
                    next.is_err() || next == Ok(200 + round),
                    "{}: {next:?}",
                    driver.name
                );
                let mut other = (driver.connect)(network.port).unwrap();
                assert_eq!(other(Ask::Number(300 + round)), Ok(300 + round));
                network.reset();
                assert!(other(Ask::Number(0)).is_err(), "{}", driver.name);
            }
        });
    }
}

#[test]
fn a_slow_network_is_waited_for_and_keeps_nobody_else() {
    for driver in DRIVERS {
        let server = (driver.server)();
        let network = Network::before(server.port);
        on_one_worker(move || {
            let ticks = Arc::new(AtomicU32::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let ticker = {
                let (ticks, over) = (ticks.clone(), over.clone());
                spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        maniple::sleep(Duration::from_millis(1));
                        ticks.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            let connections: Vec<_> = (0..8)
                .map(|_| (driver.connect)(network.port).unwrap())
                .collect();
            network.carry(Carries::Drops);
            let (before, began) = (ticks.load(Ordering::Relaxed), Instant::now());
            let calls: Vec<_> = connections
                .into_iter()
                .zip(0..)
                .map(|(mut connection, n)| {
                    spawn(move || assert_eq!(connection(Ask::Number(n)), Ok(n)))
                })
                .collect();
            for call in calls {
                call.join().unwrap();
            }
            // They had turns meanwhile, though not all that they would have wanted.
            let (ticks, took) = (ticks.load(Ordering::Relaxed) - before, began.elapsed());
            assert!(
                u128::from(ticks) * 20 >= took.as_millis(),
                "{}: {ticks} in {took:?}",
                driver.name
            );
            over.store(true, Ordering::Relaxed);
            ticker.join().unwrap();
        });
    }
}

/// Cut while the server takes its time, which some cannot be asked to, or the network does, by a deadline or a
/// cancellation: whoever has the connection next gets his own answer.
fn lends_none_that_was_cut<C: 'static>(
    name: &str,
    network: &Network,
    may_be_late: bool,
    borrow: impl Fn(&mut dyn FnMut(&mut C) -> Result<i32, String>) -> Result<i32, String>,
    ask: fn(&mut C, Ask) -> Result<i32, String>,
) {
    let both = [true, false].map(|is_late| Cut::ALL.map(|cut| (is_late && may_be_late, cut)));
    for ((is_late, cut), round) in both.into_iter().flatten().zip(0..) {
        if is_late {
            cut.after(SHORT, || {
                borrow(&mut |connection| ask(connection, Ask::Late(100)))
            });
        } else {
            network.carry(Carries::Nothing);
            cut.after(SHORT, || {
                borrow(&mut |connection| ask(connection, Ask::Number(100)))
            });
            network.carry(Carries::All);
        }
        let mut errors = 0;
        let told = loop {
            match borrow(&mut |connection| ask(connection, Ask::Number(round))) {
                Ok(told) => break told,
                Err(error) => {
                    errors += 1;
                    assert!(errors < 100, "{name}: {error}");
                }
            }
        };
        assert_eq!(told, round, "{name}");
    }
}

/// With a manager of r2d2's: its own pool, that does and does not look at connections, and ours.
fn managed<M>(
    name: &'static str,
    network: &Network,
    looks: &[bool],
    manager: impl Fn() -> M + Sync,
    ask: fn(&mut M::Connection, Ask) -> Result<i32, String>,
) where
    M: r2d2::ManageConnection,
{
    for &looks in looks {
        // Nothing but its own time ends a wait for it, whose connections threads of its own make.
        let pool = r2d2::Pool::builder()
            .max_size(1)
            .connection_timeout(2 * SHORT);
        let pool = pool.test_on_check_out(looks).build(manager()).unwrap();
        on_one_worker(|| {
            let borrow = |call: &mut dyn FnMut(&mut M::Connection) -> _| {
                call(&mut *pool.get().map_err(told)?)
            };
            lends_none_that_was_cut(name, network, true, borrow, ask);
        });
    }
    on_one_worker(|| {
        let pool = Connections::builder(R2d2::new(manager()))
            .max(1)
            .build()
            .unwrap();
        let borrow =
            |call: &mut dyn FnMut(&mut M::Connection) -> _| call(&mut *pool.get().map_err(told)?);
        lends_none_that_was_cut(name, network, true, borrow, ask);
    });
}

#[test]
fn no_pool_lends_a_connection_that_was_cut() {
    let server = Server::redis();
    let network = Network::before(server.port);
    let at = format!("redis://127.0.0.1:{}/", network.port);
    let manager = || redis::Client::open(at.clone()).unwrap();
    managed(
        "redis",
        &network,
        &[true, false],
        manager,
        |connection, ask| redis_ask(connection, ask).map_err(told),
    );

    let server = Server::postgres();
    let network = Network::before(server.port);
    let at = format!("postgres://postgres@127.0.0.1:{}/postgres", network.port);
    let manager = || diesel::r2d2::ConnectionManager::<diesel::PgConnection>::new(at.clone());
    managed(
        "diesel with PostgreSQL",
        &network,
        &[true, false],
        manager,
        |connection, ask| postgres_ask(connection, ask).map_err(told),
    );

    let server = Server::mariadb();
    let network = Network::before(server.port);
    // Without its look, diesel's manager never finds a connection of MySQL's broken, and lends it for good.
    let at = diesel_mysql_url(network.port);
    let manager = || diesel::r2d2::ConnectionManager::<diesel::MysqlConnection>::new(at.clone());
    managed(
        "diesel with MariaDB",
        &network,
        &[true],
        manager,
        |connection, ask| diesel_mysql_ask(connection, ask).map_err(told),
    );
    let at = mysql_settings(network.port);
    let manager = || r2d2_mysql::MySqlConnectionManager::new(at.clone());
    managed(
        "mysql",
        &network,
        &[true, false],
        manager,
        |connection, ask| mysql_ask(connection, ask).map_err(told),
    );

    for looks in [true, false] {
        let limits = mysql::PoolConstraints::new(1, 1).unwrap();
        let pool = mysql::PoolOpts::new()
            .with_constraints(limits)
            .with_check_health(looks);
        let pool = mysql::Pool::new(mysql_settings(network.port).pool_opts(pool)).unwrap();
        on_one_worker(|| {
            let borrow = |call: &mut dyn FnMut(&mut mysql::PooledConn) -> _| {
                call(&mut pool.get_conn().map_err(told)?)
            };
            let ask = |connection: &mut mysql::PooledConn, ask| {
                mysql_ask(connection.as_mut(), ask).map_err(told)
            };
            lends_none_that_was_cut("mysql's pool", &network, true, borrow, ask);
        });
    }
}

/// Its manager never finds a connection broken: without a look at it, one that was cut is lent for good, and each
/// that asks has an error.
#[test]
fn memcaches_pool_lends_a_connection_that_was_cut_to_nobody_or_with_an_error() {
    use memcache::{Client, ConnectionManager, Pool, Url};
    let server = Server::memcached();
    let network = Network::before(server.port);
    let at = Url::parse(&format!("memcache://127.0.0.1:{}", network.port)).unwrap();
    let client = |looks| {
        let pool = Pool::builder()
            .max_size(1)
            .connection_timeout(2 * SHORT)
            .test_on_check_out(looks);
        let pool = pool.build(ConnectionManager::new(at.clone())).unwrap();
        Client::with_pool(pool).unwrap()
    };
    fn ask(client: &mut Client, ask: Ask) -> Result<i32, String> {
        let (Ask::Number(number) | Ask::Late(number)) = ask;
        client.set("key", number, 0).map_err(told)?;
        let got = client.get("key").map_err(told)?;
        got.ok_or_else(|| "it is gone".to_owned())
    }
    let looking = client(true);
    on_one_worker(|| {
        let borrow = |call: &mut dyn FnMut(&mut Client) -> _| call(&mut looking.clone());
        lends_none_that_was_cut("memcache", &network, false, borrow, ask);
    });
    for cut in Cut::ALL {
        let mut blind = client(false);
        on_one_worker(|| {
            assert_eq!(ask(&mut blind, Ask::Number(1)), Ok(1));
            network.carry(Carries::Nothing);
            cut.after(SHORT, || ask(&mut blind, Ask::Number(100)));
            network.carry(Carries::All);
            for number in 2..7 {
                assert!(ask(&mut blind, Ask::Number(number)).is_err(), "{cut:?}");
            }
        });
    }
}

/// Who waits in theirs blocks the worker, for as long as the pool says, and then has an error. In ours he suspends.
#[test]
fn an_exhausted_pool_is_an_error_in_time() {
    let server = Server::redis();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
    let theirs = r2d2::Pool::builder().max_size(1).connection_timeout(SHORT);
    let theirs = theirs.build(client.clone()).unwrap();
    on_one_worker(|| {
        let held = theirs.get().unwrap();
        assert!(theirs.get().is_err());
        drop(held);
        theirs.get().unwrap();

        let ours = Connections::builder(R2d2::new(client))
            .max(1)
            .build()
            .unwrap();
        let mut held = ours.get().unwrap();
        let others = Arc::new(AtomicBool::new(false));
        let other = {
            let others = others.clone();
            spawn(move || others.store(true, Ordering::Relaxed))
        };
        assert!(!matches!(timeout(SHORT, || ours.get()), Ok(Ok(_))));
        assert!(others.load(Ordering::Relaxed), "it suspends");
        other.join().unwrap();
        assert_eq!(redis_ask(&mut held, Ask::Number(5)), Ok(5));
        drop(held);
        assert_eq!(redis_ask(&mut ours.get().unwrap(), Ask::Number(6)), Ok(6));
    });
    let server = Server::mariadb();
    let limits = mysql::PoolConstraints::new(1, 1).unwrap();
    let pool = mysql::PoolOpts::new().with_constraints(limits);
    let pool = mysql::Pool::new(mysql_settings(server.port).pool_opts(pool)).unwrap();
    on_one_worker(|| {
        let held = pool.get_conn().unwrap();
        assert!(pool.try_get_conn(SHORT).is_err());
        drop(held);
        pool.try_get_conn(SHORT).unwrap();
    });
}

static TICKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn tick(_signal: i32) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// With and without `SA_RESTART`: a coroutine that waits is in no system call, and so is never told `EINTR`.
#[test]
fn signals_interrupt_no_call() {
    for flags in [0, libc::SA_RESTART] {
        // SAFETY: a handler that adds to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = tick as *const () as usize;
            action.sa_flags = flags;
            assert_eq!(
                libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()),
                0
            );
        }
        for driver in DRIVERS {
            let server = (driver.server)();
            every(Duration::from_millis(1));
            let before = TICKS.load(Ordering::Relaxed);
            on_one_worker(move || {
                let mut connection = (driver.connect)(server.port).unwrap();
                assert_eq!(connection(Ask::Late(7)), Ok(7), "{}", driver.name);
                for n in 0..50 {
                    assert_eq!(connection(Ask::Number(n)), Ok(n), "{}", driver.name);
                }
            });
            every(Duration::ZERO);
            assert!(
                TICKS.load(Ordering::Relaxed) > before + 20,
                "there were signals"
            );
        }
    }
}

/// Has the process get a signal so often; never, if that is zero.
fn every(time: Duration) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: time.as_micros() as _,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: a time of ours.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// A program that is started meanwhile, and given the connection of a driver that waits, has it as any other would.
#[test]
fn a_program_that_is_started_has_descriptors_as_they_are() {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::OwnedFd,
        process::{Command, Stdio},
    };
    on_one_worker(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        // Both wait for the same connection, which stays a blocking one.
        let mut own = near.try_clone().unwrap();
        let waiter = spawn(move || {
            let mut got = [0; 1];
            own.read_exact(&mut got).unwrap();
            got[0]
        });
        maniple::sleep(Duration::from_millis(5));
        let mut program = Command::new("head");
        program
            .args(["-c", "1"])
            .stdin(Stdio::from(OwnedFd::from(near)))
            .stdout(Stdio::piped());
        let program = spawn(move || program.output().unwrap());
        maniple::sleep(Duration::from_millis(50));
        far.write_all(b"a").unwrap();
        maniple::sleep(Duration::from_millis(50));
        far.write_all(b"b").unwrap();
        let output = program.join().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut both = [output.stdout[0], waiter.join().unwrap()];
        both.sort_unstable();
        assert_eq!(&both, b"ab");
    });
}

/// mysql's connections in a pool of ours, by a manager of three lines.
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
fn a_pool_of_ours_outlives_the_servers_death_and_return_by_its_errors() {
    let server = Server::mariadb();
    let network = Network::before(server.port);
    on_one_worker(|| {
        let manager = MySql(mysql_settings(network.port).into());
        let pool = Connections::builder(manager)
            .max(2)
            .check_after(Duration::ZERO)
            .build()
            .unwrap();
        assert_eq!(
            mysql_ask(&mut pool.get().unwrap(), Ask::Number(1)).map_err(told),
            Ok(1)
        );
        network.reset();
        assert_eq!(
            mysql_ask(&mut pool.get().unwrap(), Ask::Number(2)).map_err(told),
            Ok(2)
        );
    });
}
