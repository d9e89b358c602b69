//! A hall of chatters and a pool of workers in simulated worlds.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{net::TcpStream, sim};
use maniple_parts::{
    actor::{Actor, Closed, ConnId, LineCodec, Outbox, Server},
    pool::Pool,
};

/// Each line goes to all.
#[derive(Default)]
struct Hall(BTreeSet<ConnId>);

impl Actor for Hall {
    type In = String;
    type Out = Arc<str>;

    fn opened(&mut self, conn: ConnId, _: SocketAddr, _: &mut Outbox<Arc<str>>) {
        self.0.insert(conn);
    }

    fn received(&mut self, _: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
        let line: Arc<str> = line.into();
        for &member in &self.0 {
            out.send(member, line.clone());
        }
    }

    fn closed(&mut self, conn: ConnId, _: Closed, _: &mut Outbox<Arc<str>>) {
        self.0.remove(&conn);
    }
}

fn hall() {
    let server = Server::builder("hall", LineCodec::new(80), Hall::default());
    // A world that ends cuts it short.
    _ = server.bind("0.0.0.0:7").unwrap().serve();
}

#[test]
fn all_members_of_a_hall_hear_the_same_lines_in_the_same_order() {
    sim::check(sim::seeds(100), |world| {
        let _hall = world.host("hall", hall);
        let milli = Duration::from_millis(1);
        world
            .link("scenario", "hall")
            .latency(milli..20 * milli)
            .loss(0.01);
        world.settle();
        let members: Vec<_> = (0..3)
            .map(|_| TcpStream::connect("hall:7").unwrap())
            .collect();
        // All are in once each hears itself.
        maniple::sleep(Duration::from_secs(1));
        let heard = maniple::group(|g| {
            let listening: Vec<_> = members
                .iter()
                .map(|member| {
                    g.spawn(move || {
                        let lines = BufReader::new(member).lines();
                        lines.take(9).collect::<Result<Vec<_>, _>>().unwrap()
                    })
                })
                .collect();
            for (number, mut member) in members.iter().enumerate() {
                for line in 0..3 {
                    maniple::sleep(Duration::from_micros(world.draw(0..5000)));
                    writeln!(member, "{number} says {line}").unwrap();
                }
            }
            let joined = listening.into_iter().map(|each| each.join());
            joined.collect::<Result<Vec<_>, _>>()
        })
        .unwrap();
        assert!(heard.iter().all(|lines| *lines == heard[0]), "{heard:?}");
        sim::sometimes!(heard[0].windows(2).any(|two| two[0] > two[1]));
    });
}

#[test]
fn a_pool_does_each_job_that_it_took_once_and_its_drain_ends() {
    sim::check(sim::seeds(200), |world| {
        let pool = Pool::builder("jobs").workers(2).build().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let mut taken = 0;
        for _ in 0..world.draw(1..20) {
            let (done, time) = (done.clone(), Duration::from_micros(world.draw(0..500)));
            let job = move || {
                maniple::sleep(time);
                done.fetch_add(1, Ordering::Relaxed);
            };
            taken += usize::from(pool.submit(job).is_ok());
            maniple::sleep(Duration::from_micros(world.draw(0..300)));
        }
        let begun = world.now();
        pool.drain(Duration::from_secs(60));
        assert!(world.now() - begun < Duration::from_secs(1));
        assert_eq!(done.load(Ordering::Relaxed), taken);
    });
}
