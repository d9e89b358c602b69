//! A cancellation at every suspension of who uses a pool, a hub or an actor: nothing is lost or doubled,
//! and the part works on.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{
    cancel::{at_every_suspension, cancel_at},
    net::TcpStream,
    sync::channel::unbounded,
};
use maniple_parts::{
    actor::{Actor, Closed, ConnId, LineCodec, Outbox, Server},
    hub::{Hub, Lag, RecvError},
    pool::{JobError, Pool, SubmitError, WhenFull},
};

/// Bounds a wait that must end, so that a failure does not hang.
const LONG: Duration = Duration::from_secs(60);

/// A wait that is a suspension, however short.
fn pause() {
    maniple::sleep(Duration::from_micros(1));
}

#[test]
fn cutting_a_submitter_loses_and_doubles_no_job() {
    for policy in [
        WhenFull::Wait,
        WhenFull::Reject,
        WhenFull::DropOldest,
        WhenFull::RunHere,
    ] {
        let points = at_every_suspension(|after| {
            let builder = Pool::builder("tested").workers(1).queue(1);
            let pool = builder.when_full(policy).build().unwrap();
            let (begun, whole) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (mut accepted, mut results) = (0, 0);
            let victim = || {
                let mut tickets = Vec::new();
                for _ in 0..4 {
                    let (begun, whole) = (begun.clone(), whole.clone());
                    let job = move || {
                        begun.fetch_add(1, SeqCst);
                        pause();
                        whole.fetch_add(1, SeqCst);
                    };
                    match pool.submit(job) {
                        Ok(ticket) => tickets.push(ticket),
                        Err(SubmitError::Full { .. }) => continue,
                        Err(_) => break,
                    }
                    accepted += 1;
                }
                for ticket in tickets {
                    match ticket.join() {
                        Ok(()) => results += 1,
                        Err(JobError::Cancelled { .. } | JobError::Dropped { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            };
            let (_, struck) = cancel_at(after, victim);
            let again = maniple::timeout(LONG, || pool.submit(|| 7).unwrap().join().unwrap());
            assert_eq!(again, Ok(7));
            assert_eq!(pool.drain(LONG).left, 0);
            let stats = pool.stats();
            assert_eq!(
                (stats.submitted, stats.queued, stats.running),
                (accepted + 1, 0, 0)
            );
            let (begun, whole) = (begun.load(SeqCst), whole.load(SeqCst));
            assert_eq!(stats.done, whole + 1);
            assert!(results <= whole && begun <= accepted);
            assert_eq!(
                stats.done + stats.cancelled + stats.dropped,
                stats.submitted
            );
            assert_eq!((stats.panicked, stats.expired), (0, 0));
            struck
        });
        assert!(points >= 3, "{policy:?}: {points}");
    }
}

#[test]
fn cutting_a_drain_leaves_a_closed_pool_that_works_off_its_queue() {
    let points = at_every_suspension(|after| {
        let pool = Pool::builder("tested").workers(2).queue(4).build().unwrap();
        let tickets: Vec<_> = (0..4).map(|_| pool.submit(pause).unwrap()).collect();
        let (drained, struck) = cancel_at(after, || pool.drain(LONG));
        assert!(pool.is_closed());
        let rest = pool.drain(LONG);
        assert_eq!((rest.withdrawn, rest.cancelled, rest.left), (0, 0, 0));
        if let Ok(report) = drained {
            assert_eq!((report.finished, rest.finished), (4, 0));
        }
        tickets
            .into_iter()
            .for_each(|ticket| ticket.join().unwrap());
        assert_eq!(pool.stats().done, 4);
        struck
    });
    assert!(points >= 2, "{points}");
}

#[test]
fn cutting_a_publisher_keeps_all_members_alike() {
    let points = at_every_suspension(|after| {
        let hub = Hub::builder("tested").queue(1).build().unwrap();
        let (tell, told) = unbounded();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut member = hub.subscribe("t", Lag::Wait).unwrap();
                let tell = tell.clone();
                maniple::spawn(move || {
                    let next = || {
                        pause();
                        member.recv().ok().map(|received| received.message)
                    };
                    let _ = tell.send(std::iter::from_fn(next).collect::<Vec<u32>>());
                })
            })
            .collect();
        let mut beside = hub.subscribe("t", Lag::DropOldest).unwrap();
        let mut published = Vec::new();
        // Another publisher waits for its turn, or has the victim wait.
        let other = maniple::spawn({
            let hub = hub.clone();
            move || (10..13).for_each(|n| assert_eq!(hub.publish("t", n), Ok(3)))
        });
        let victim = || {
            for n in 0..4 {
                match hub.publish("t", n) {
                    Ok(reached) => assert_eq!(reached, 3),
                    Err(_) => break,
                }
                published.push(n);
            }
        };
        let (_, struck) = cancel_at(after, victim);
        other.join().unwrap();
        let last = beside.recv().unwrap();
        assert_eq!(last.dropped + 1, published.len() as u64 + 3);
        assert_eq!(hub.stats().published, published.len() as u64 + 3);
        drop(hub);
        let heard = told.recv().unwrap();
        assert_eq!(told.recv().unwrap(), heard);
        assert_eq!(heard.last(), Some(&last.message));
        let (theirs, own): (Vec<_>, Vec<_>) = heard.into_iter().partition(|&n| n >= 10);
        assert_eq!((own, theirs), (published, vec![10, 11, 12]));
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        struck
    });
    assert!(points >= 6, "{points}");
}

#[test]
fn cutting_a_member_loses_it_no_message() {
    let points = at_every_suspension(|after| {
        let hub = Hub::builder("tested").queue(1).build().unwrap();
        let mut member = hub.subscribe("t", Lag::Wait).unwrap();
        let publisher = maniple::spawn(move || {
            for n in 0..4 {
                pause();
                assert_eq!(hub.publish("t", n), Ok(1));
            }
        });
        let mut heard = Vec::new();
        let mut hear = || {
            loop {
                match member.recv() {
                    Ok(received) => heard.push((received.dropped, received.message)),
                    Err(error) => return error,
                }
            }
        };
        let (ended, struck) = cancel_at(after, &mut hear);
        match ended {
            Ok(RecvError::Closed { .. }) => {}
            _ => assert!(matches!(hear(), RecvError::Closed { .. })),
        }
        assert_eq!(heard, [(0, 0), (0, 1), (0, 2), (0, 3)]);
        publisher.join().unwrap();
        struck
    });
    assert!(points >= 5, "{points}");
}

/// Echoes, and counts who is there.
#[derive(Default)]
struct Echo {
    opened: u64,
    closed: u64,
    drains: u64,
}

impl Actor for Echo {
    type In = String;
    type Out = Arc<str>;

    fn opened(&mut self, _: ConnId, _: SocketAddr, _: &mut Outbox<Arc<str>>) {
        self.opened += 1;
    }

    fn received(&mut self, conn: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
        assert!(out.send(conn, line));
    }

    fn closed(&mut self, conn: ConnId, _: Closed, out: &mut Outbox<Arc<str>>) {
        self.closed += 1;
        out.send(conn, "bye");
    }

    fn draining(&mut self, _: &mut Outbox<Arc<str>>) {
        self.drains += 1;
    }
}

#[test]
fn cutting_the_owner_of_a_server_drains_it() {
    for on_pool in [false, true] {
        let points = at_every_suspension(|after| {
            let pool = Pool::builder("lines").workers(4).build().unwrap();
            let mut builder = Server::builder("tested", LineCodec::new(9), Echo::default());
            if on_pool {
                builder = builder.on_pool(&pool);
            }
            let server = builder.events(1).bind("127.0.0.1:0").unwrap();
            let handle = server.handle();
            let clients: Vec<_> = (0..2)
                .map(|_| {
                    let address = handle.local_addr();
                    // A cut server may refuse, reset, or end at any line, but says no line that was not said.
                    maniple::spawn(move || -> std::io::Result<usize> {
                        let mut stream = TcpStream::connect(address)?;
                        stream.set_read_timeout(Some(LONG))?;
                        let mut lines = BufReader::new(stream.try_clone()?).lines();
                        for n in 0..3 {
                            stream.write_all(format!("{n}\n").as_bytes())?;
                            match lines.next().transpose()? {
                                Some(line) if line == n.to_string() => {}
                                Some(line) => assert_eq!(line, "bye"),
                                None => return Ok(n),
                            }
                        }
                        Ok(3)
                    })
                })
                .collect();
            let ends = maniple::spawn({
                let handle = handle.clone();
                move || {
                    let whole = clients.into_iter().map(|client| client.join().unwrap());
                    let whole = whole.filter(|heard| matches!(heard, Ok(3))).count();
                    handle.drain();
                    whole
                }
            });
            let mut served = None;
            let (_, struck) = cancel_at(after, || served = Some(server.serve()));
            let (echo, report) = served.expect("it returns though it is cancelled").unwrap();
            let whole = ends.join().unwrap();
            assert!(struck || whole == 2);
            assert_eq!((echo.opened, echo.drains), (echo.closed, 1));
            assert_eq!(
                (report.connections, report.drain.cancelled),
                (echo.opened, 0)
            );
            assert_eq!(handle.connections(), 0);
            let drained = pool.drain(LONG);
            assert_eq!(
                (drained.withdrawn, drained.cancelled, drained.left),
                (0, 0, 0)
            );
            struck
        });
        assert!(points >= 10, "{points}");
    }
}
