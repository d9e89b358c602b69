//! Stacks, descriptors and calls that fail because the seed says so.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    net::{TcpListener, TcpStream, UnixStream, pipe},
    sim,
};

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_coroutine_that_gets_no_stack_tells_its_handle_and_drops_what_it_owns() {
    struct Owned(Arc<AtomicUsize>);
    impl Drop for Owned {
        fn drop(&mut self) {
            maniple::sleep(MILLI);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    sim::check(sim::seeds(200), |world| {
        let _shortage = world.shortage("scenario").stacks(0.3);
        let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all: Vec<_> = (0..20)
            .map(|_| {
                let (owned, ran) = (Owned(dropped.clone()), ran.clone());
                maniple::spawn(move || {
                    let _owned = owned;
                    ran.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let mut refused = 0;
        for each in all {
            let Err(error) = each.join() else { continue };
            assert!(!error.is_panic() && !error.is_cancelled(), "{error}");
            let error = io::Error::from(error);
            let kinds = [ErrorKind::QuotaExceeded, ErrorKind::OutOfMemory];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            sim::sometimes!(error.kind() == ErrorKind::OutOfMemory);
            refused += 1;
        }
        assert_eq!(ran.load(Ordering::Relaxed) + refused, 20);
        maniple::sleep(100 * MILLI);
        assert_eq!(dropped.load(Ordering::Relaxed), 20);
        sim::sometimes!(refused > 5);
    });
}

#[test]
fn a_group_runs_all_its_children_or_its_leader_is_told() {
    sim::check(sim::seeds(200), |world| {
        let _shortage = world.shortage("scenario").stacks(0.2);
        let ran = Arc::new(AtomicUsize::new(0));
        let theirs = ran.clone();
        let leader = maniple::spawn(move || {
            maniple::group(|g| {
                for _ in 0..5 {
                    g.spawn(|| {
                        maniple::sleep(MILLI);
                        theirs.fetch_add(1, Ordering::Relaxed);
                    });
                }
                Ok::<_, io::Error>(())
            })
        });
        let whole = leader.join();
        let ran = ran.load(Ordering::Relaxed);
        assert!(
            matches!(whole, Ok(Ok(()))) == (ran == 5),
            "{ran}: {whole:?}"
        );
        sim::sometimes!(ran == 5);
        sim::sometimes!(ran < 5);
    });
}

#[test]
fn what_is_short_on_one_host_is_not_on_others_nor_after_the_shortage() {
    sim::check(sim::seeds(50), |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            loop {
                // Those that cannot be accepted wait for it.
                match listener.accept() {
                    Ok((mut stream, _)) => stream.write_all(b"here").unwrap(),
                    Err(error) => {
                        assert!(matches!(error.raw_os_error(), Some(23 | 24)), "{error:?}");
                        maniple::sleep(10 * MILLI);
                    }
                }
            }
        });
        world.settle();
        let shortage = world.shortage("server").descriptors(1.0);
        let mut stream = TcpStream::connect("server:7").unwrap();
        let mut text = String::new();
        let early = maniple::timeout(1000 * MILLI, || stream.read_to_string(&mut text));
        assert!(!matches!(early, Ok(Ok(_))), "{text}");
        drop(shortage);
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
    });
}

#[test]
fn a_host_without_descriptors_makes_no_socket_pipe_or_clone() {
    sim::check(0..20, |world| {
        let listener = TcpListener::bind("0.0.0.0:7").unwrap();
        let shortage = world.shortage("scenario").descriptors(1.0);
        let failed = [
            TcpListener::bind("0.0.0.0:8").map(drop),
            TcpStream::connect("scenario:7").map(drop),
            listener.accept().map(drop),
            listener.try_accept().map(drop),
            listener.try_clone().map(drop),
            pipe().map(drop),
            UnixStream::pair().map(drop),
        ];
        for (number, outcome) in failed.into_iter().enumerate() {
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains("oo many open files"), "{number}: {text}");
        }
        drop(shortage);
        assert!(pipe().is_ok());
    });
}

#[test]
fn calls_fail_where_the_seed_says_so_and_what_was_not_accepted_stays() {
    sim::check(sim::seeds(200), |world| {
        let listener = TcpListener::bind("0.0.0.0:7").unwrap();
        let client = TcpStream::connect("scenario:7").unwrap();
        let shortage = world.shortage("scenario").calls(0.5);
        let mut failed = 0;
        let (accepted, _) = loop {
            match maniple::timeout(1000 * MILLI, || listener.accept()).unwrap() {
                Ok(accepted) => break accepted,
                Err(_) => failed += 1,
            }
        };
        sim::sometimes!(failed == 0);
        sim::sometimes!(failed > 1);
        (&client).write_all(b"x").unwrap();
        // To watch it may fail, and be tried again.
        while let Err(error) = (&accepted).read_exact(&mut [0]) {
            assert!(matches!(error.raw_os_error(), Some(12 | 28)), "{error:?}");
            sim::sometimes!(true);
        }
        drop(shortage);
        assert!(TcpStream::connect("scenario:7").is_ok());
    });
}

#[test]
#[should_panic(expected = "is no share of one")]
fn a_share_beyond_one_is_refused() {
    sim::check(0..1, |world| drop(world.shortage("scenario").stacks(1.5)));
}
