//! Servers that stand still for a while: whoever waits for one goes on waiting, up to his deadline.

use std::time::Instant;

use maniple::{sleep, spawn, timeout};
use maniple_drivers::{CALL, on_one_worker};
use maniple_parts::connections::{Connections, Manage};

use super::{
    SHORT,
    asked::{Ask, Connection, DRIVERS, Driver},
};

/// A driver's connections, in a pool of ours.
struct Pooled(Driver, u16);

impl Manage for Pooled {
    type Connection = Connection;
    type Error = String;

    fn connect(&self) -> Result<Connection, String> {
        (self.0.connect)(self.1)
    }

    fn check(&self, connection: &mut Connection) -> Result<(), String> {
        connection(Ask::Number(0)).map(drop)
    }

    fn is_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

#[test]
fn a_server_that_stands_still_in_mid_query_is_waited_for_up_to_the_deadline() {
    for driver in DRIVERS {
        let (name, server) = (driver.name, (driver.server)());
        let connect = driver.connect;
        on_one_worker(|| {
            let pool = Connections::builder(Pooled(driver, server.port))
                .max(2)
                .build()
                .unwrap();
            let (mut one, mut other) = (pool.get().unwrap(), pool.get().unwrap());
            let began = Instant::now();
            let patient = spawn(move || one(Ask::Late(1)));
            let hasty = spawn(move || timeout(2 * CALL, || other(Ask::Late(2))));
            sleep(SHORT);
            let stopped = server.stopped();
            let cut = hasty.join().unwrap();
            let took = began.elapsed();
            let error = cut.unwrap().unwrap_err();
            assert!(took >= 2 * CALL && took < 3 * CALL, "{name}: {took:?}");
            // Nobody answers a new one either.
            let third = timeout(SHORT, || pool.get().map(drop));
            assert!(!matches!(third, Ok(Ok(()))), "{name}");
            assert!(!patient.is_finished(), "{name}");
            drop(stopped);
            assert_eq!(patient.join().unwrap(), Ok(1), "{name}");
            // The one of the two that was cut was lent to nobody.
            let (mut one, mut other) = (pool.get().unwrap(), pool.get().unwrap());
            assert_eq!(pool.stats().connects, 3, "{name}");
            for n in 10..13 {
                assert_eq!(one(Ask::Number(n)), Ok(n), "{name}");
                assert_eq!(other(Ask::Number(-n)), Ok(-n), "{name}");
            }
            // The library of MariaDB has no other for it.
            let says = |what| error.contains(what);
            let is_right = says("timed out") || says("Lost connection to server during query");
            assert!(is_right, "{name}: {error}");

            // A connection in no pool, and what is sent when all stand still.
            let mut connection = connect(server.port).unwrap();
            let stopped = server.stopped();
            let cut = timeout(SHORT, || connection(Ask::Number(20))).unwrap();
            assert!(cut.is_err(), "{name}: {cut:?}");
            drop(stopped);
            let next = connection(Ask::Number(21));
            assert!(next.is_err() || next == Ok(21), "{name}: {next:?}");
        });
    }
}
