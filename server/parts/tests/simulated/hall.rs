//! A hall of chatters in two layers: coroutines that read and write for each connection, and the one owner of all state.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::{
    net::TcpStream,
    sim::{self, World},
};
use maniple_parts::actor::{Actor, Closed, ConnId, LineCodec, Outbox, Server, ServerHandle};

const MILLI: Duration = Duration::from_millis(1);

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
    sim::check(sim::seeds(200), |world| {
        let _hall = world.host("hall", hall);
        world
            .link("scenario", "hall")
            .latency(MILLI..20 * MILLI)
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

/// Says some lines, and hears what comes until the end.
fn member(world: &World, number: usize, heard: &Mutex<Vec<String>>) {
    let stream = TcpStream::connect("hall:7").unwrap();
    maniple::group(|g| {
        let speaker = &stream;
        g.spawn(move || {
            // All are in.
            maniple::sleep(100 * MILLI);
            for line in 0..4 {
                maniple::sleep(Duration::from_micros(world.draw(0..20_000)));
                if writeln!(&mut &*speaker, "{number} says {line}").is_err() {
                    return;
                }
            }
        });
        for line in BufReader::new(&stream).lines() {
            let Ok(line) = line else { break };
            heard.lock().unwrap().push(line);
        }
        Ok::<_, ()>(())
    })
    .unwrap();
}

#[test]
fn who_is_cut_off_has_heard_what_all_hear_up_to_there_and_a_drain_ends() {
    sim::check(sim::seeds(200), |world| {
        let handles: Arc<Mutex<Vec<ServerHandle>>> = Arc::default();
        let left = handles.clone();
        let _hall = world.host("hall", move || {
            let server = Server::builder("hall", LineCodec::new(80), Hall::default());
            let server = server.outgoing(4).write_timeout(500 * MILLI);
            let server = server.drain_grace(500 * MILLI).bind("0.0.0.0:7").unwrap();
            left.lock().unwrap().push(server.handle());
            _ = server.serve();
        });
        world.settle();
        let names = ["ann", "ben", "cay"];
        let heard = names.map(|_| Arc::new(Mutex::new(Vec::new())));
        let members = Vec::from_iter(names.iter().zip(&heard).enumerate().map(
            |(number, (name, heard))| {
                let (world, heard) = (world.clone(), heard.clone());
                let own = world.clone();
                own.host(name, move || member(&world, number, &heard))
            },
        ));
        let link = |name| world.link(name, "hall").latency(MILLI..10 * MILLI);
        for name in names {
            drop(link(name));
        }
        let handle = handles.lock().unwrap()[0].clone();
        world.eventually(90 * MILLI, || handle.connections() == 3);
        for name in names {
            drop(link(name).loss(0.005));
        }
        maniple::sleep(Duration::from_micros(world.draw(0..160_000)));
        match world.draw(0..4) {
            0 => members[1].crash(),
            1 => {
                let cut = world.partition(&["ben"], &["hall"]);
                maniple::sleep(Duration::from_millis(world.draw(0..3000)));
                cut.heal();
            }
            2 => {
                let resets = world.rule(|packet| packet.between("ben", "hall").then_reset());
                maniple::sleep(10 * MILLI);
                drop(resets);
            }
            _ => {}
        }
        // Long enough for what is lost to be sent again.
        maniple::sleep(Duration::from_secs(60));
        sim::sometimes!(handle.connections() == 3);
        sim::sometimes!(handle.connections() < 3);
        handle.drain();
        world.eventually(Duration::from_secs(60), || handle.connections() == 0);
        assert_eq!(handle.backlog(), 0, "nothing is kept for who has gone");
        let heard = heard.map(|heard| heard.lock().unwrap().clone());
        let most = heard.iter().max_by_key(|heard| heard.len()).unwrap();
        for each in &heard {
            assert!(
                most.starts_with(each),
                "{each:?} is no beginning of {most:?}"
            );
        }
        sim::sometimes!(heard.iter().all(|heard| heard.len() == 12));
        sim::sometimes!(heard.iter().any(|heard| heard.len() < most.len()));
        // Who speaks, hears itself: what one has heard of its own lines is in their order.
        for (number, heard) in heard.iter().enumerate() {
            let own = heard
                .iter()
                .filter(|line| line.starts_with(&number.to_string()));
            let own: Vec<_> = own.cloned().collect();
            let expected = (0..own.len()).map(|line| format!("{number} says {line}"));
            assert_eq!(own, expected.collect::<Vec<_>>());
        }
    });
}
