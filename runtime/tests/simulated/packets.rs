//! Rules for packets, bandwidth, and what TCP does about what is lost for good.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    net::{Shutdown, TcpListener, TcpStream},
    sim::{self, PacketKind, Verdict, World},
    sync::Mutex,
};

use super::network::{MILLIS, MINUTE, connected, echo};

/// As long as Linux tries (`tcp_retries2` of 15): 0.2, 0.4, 0.8 s and so on, two minutes at most each time.
const GIVES_UP: Duration = Duration::from_millis(924_600);

fn round_trip(mut stream: &TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

#[test]
fn what_a_rule_drops_comes_once_the_rule_has_ended() {
    sim::check(sim::seeds(100), |world| {
        let _server = world.host("server", echo);
        let stream = connected(world);
        let seen = Arc::new(AtomicUsize::new(0));
        let theirs = seen.clone();
        let rule = world.rule(move |packet| {
            let to_server = packet.goes("scenario", "server").of(PacketKind::Data);
            assert!(packet.from() != packet.to() && packet.source().port() > 0);
            theirs.fetch_add(usize::from(packet.bytes() == b"hello"), Ordering::Relaxed);
            to_server.then_drop()
        });
        let healer = maniple::spawn(move || {
            maniple::sleep(2 * MINUTE);
            drop(rule);
        });
        round_trip(&stream);
        assert!(world.now() > 2 * MINUTE && world.now() < 5 * MINUTE);
        // Sent again after 0.2, 0.6, 1.4, 3, 6.2, 12.6, 25.4, 51 and 102.2 seconds, while it was lost.
        assert_eq!(seen.load(Ordering::Relaxed), 10);
        healer.join().unwrap();
    });
}

#[test]
fn a_rule_may_delay_reset_or_let_pass_and_the_oldest_that_has_a_say_counts() {
    sim::check(sim::seeds(50), |world| {
        let _server = world.host("server", echo);
        let stream = connected(world);
        let slow = world.rule(|packet| {
            packet
                .between("server", "scenario")
                .of(PacketKind::Data)
                .then_delay(MINUTE)
        });
        let _late = world.rule(|packet| packet.of(PacketKind::Data).then_reset());
        let begun = world.now();
        round_trip(&stream);
        assert!(world.now() - begun >= 2 * MINUTE, "there and back");
        drop(slow);
        (&stream).write_all(b"hello").unwrap();
        let error = (&stream).read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_rule_draws_and_its_draws_are_the_seeds() {
    let scenario = |world: &World| {
        let _server = world.host("server", echo);
        let stream = connected(world);
        let _rule = world.rule(|packet| {
            let data = packet.of(PacketKind::Data);
            data.sometimes(0.3).then(Verdict::Drop)
        });
        (0..5).for_each(|_| round_trip(&stream));
    };
    let traces: BTreeSet<_> = (0..20)
        .map(|seed| {
            let run = sim::run(seed, scenario).unwrap();
            assert_eq!(run, sim::run(seed, scenario).unwrap());
            run.lasted() > 400 * MILLIS
        })
        .collect();
    assert_eq!(traces.len(), 2, "some lose something, others nothing");
}

#[test]
fn a_rule_that_panics_or_asks_the_world_fails_its_seed() {
    type Begin = fn(&World) -> sim::ActiveRule;
    let failing: [(&str, Begin); 3] = [
        ("mistaken", |world| world.rule(|_| panic!("mistaken"))),
        ("its packet alone", |world| {
            let own = world.clone();
            world.rule(move |_| match own.draw(0..2) {
                0 => Verdict::Drop,
                _ => Verdict::Pass,
            })
        }),
        ("no host \"typo\"", |world| {
            world.rule(|packet| packet.between("typo", "server").then_drop())
        }),
    ];
    for (text, begin) in failing {
        let failure = sim::run(0, move |world| {
            let _server = world.host("server", echo);
            let stream = connected(world);
            let _rule = begin(world);
            round_trip(&stream);
            maniple::sleep(MINUTE);
        });
        let failure = failure.unwrap_err();
        assert!(failure.what().contains(text), "{failure}");
    }
}

#[test]
fn a_connection_is_given_up_after_a_quarter_of_an_hour() {
    sim::check(sim::seeds(30), |world| {
        let server = world.host("server", echo);
        let stream = connected(world);
        round_trip(&stream);
        let cut = match world.draw(0..3) {
            0 => Some(world.partition(&["scenario"], &["server"])),
            // What is sent comes, and nothing is heard of that.
            1 => Some(world.partition_one_way(&["server"], &["scenario"])),
            _ => None,
        };
        if cut.is_none() {
            server.crash();
        }
        let begun = world.now();
        (&stream).write_all(b"into the void").unwrap();
        let error = (&stream).read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            error.raw_os_error(),
            Some(110),
            "the system's, not a deadline's"
        );
        let took = world.now() - begun;
        assert!(took.abs_diff(GIVES_UP) < Duration::from_secs(1), "{took:?}");
        let write = (&stream).write(b"more").unwrap_err();
        assert_eq!(write.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn who_only_listens_does_not_notice_that_the_other_side_is_gone() {
    sim::check(0..5, |world| {
        let server = world.host("server", echo);
        let stream = connected(world);
        server.crash();
        stream.set_read_timeout(Some(60 * MINUTE)).unwrap();
        let error = (&stream).read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.raw_os_error(), None, "one's own timeout: {error}");
    });
}

#[test]
fn bytes_take_as_long_as_the_bandwidth_says_which_connections_share() {
    sim::check(sim::seeds(20), |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            while let Ok((mut stream, _)) = listener.accept() {
                maniple::spawn(move || {
                    let mut sink = Vec::new();
                    stream.read_to_end(&mut sink).unwrap();
                    assert_eq!(sink.len(), 100_000);
                });
            }
        });
        let link = world.link("scenario", "server");
        _ = link.latency(MILLIS..2 * MILLIS).bandwidth(100_000);
        let streams = [connected(world), connected(world)];
        let begun = world.now();
        maniple::group(|g| {
            for mut stream in &streams {
                g.spawn(move || {
                    stream.write_all(&[1; 100_000]).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        let took = (world.now() - begun).as_secs_f64();
        // 200,000 bytes, and what heads of packets are beside them.
        assert!((2.0..3.0).contains(&took), "{took}");
    });
}

#[test]
fn a_link_that_resets_connections_tells_both_ends() {
    sim::check(sim::seeds(100), |world| {
        let seen = Arc::new(Mutex::new(None));
        let theirs = seen.clone();
        let _server = world.host("server", move || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 5];
            let ended = loop {
                match stream.read_exact(&mut buffer) {
                    Ok(()) => _ = stream.write_all(&buffer),
                    Err(error) => break error.kind(),
                }
            };
            *theirs.lock() = Some(ended);
        });
        let mut stream = connected(world);
        _ = world.link("scenario", "server").resets(0.2);
        let ended = loop {
            let asked = stream.write_all(b"hello");
            match asked.and_then(|()| stream.read_exact(&mut [0; 5])) {
                Ok(()) => {}
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(ended, ErrorKind::ConnectionReset);
        maniple::sleep(MINUTE);
        assert_eq!(*seen.lock(), Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn the_first_write_after_a_reset_says_so_and_later_ones_that_the_pipe_is_broken() {
    sim::check(0..20, |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.reset_on_close().unwrap();
        });
        let mut stream = connected(world);
        maniple::sleep(MINUTE);
        let kinds = [(); 3].map(|()| stream.write(b"x").unwrap_err().kind());
        let [first, later @ ..] = kinds;
        assert_eq!(first, ErrorKind::ConnectionReset);
        assert_eq!(later, [ErrorKind::BrokenPipe; 2]);
    });
}

#[test]
fn a_full_backlog_has_clients_ask_again_and_all_come_in_the_end() {
    sim::check(sim::seeds(30), |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::builder().backlog(1).bind("0.0.0.0:7").unwrap();
            loop {
                maniple::sleep(500 * MILLIS);
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"in").unwrap();
            }
        });
        world.settle();
        let order = Mutex::new(Vec::new());
        maniple::group(|g| {
            for number in 0..5 {
                let order = &order;
                g.spawn(move || {
                    let mut stream = TcpStream::connect("server:7").unwrap();
                    stream.read_exact(&mut [0; 2]).unwrap();
                    order.lock().push(number);
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        assert!(world.now() > 1000 * MILLIS, "some had to ask again");
        // Who is accepted first is drawn.
        sim::sometimes!(order.lock()[0] == 0);
        sim::sometimes!(order.lock()[0] == 4);
    });
}

#[test]
fn a_half_that_has_ended_leaves_the_other_open() {
    sim::check(sim::seeds(50), |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            maniple::sleep(MINUTE);
            for _ in 0..3 {
                stream.write_all(all.as_bytes()).unwrap();
                maniple::sleep(MILLIS);
            }
        });
        let mut stream = connected(world);
        stream.write_all(b"first").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            stream.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "firstfirstfirst");
    });
}

#[test]
fn what_is_sent_and_on_its_way_is_unacknowledged() {
    sim::check(0..20, |world| {
        let _server = world.host("server", echo);
        let stream = connected(world);
        assert_eq!(stream.unacknowledged().unwrap(), 0);
        (&stream).write_all(b"hello").unwrap();
        assert_eq!(stream.unacknowledged().unwrap(), 5);
        (&stream).read_exact(&mut [0; 5]).unwrap();
        assert_eq!(stream.unacknowledged().unwrap(), 0);
    });
}
