//! Coroutines that begin once a descriptor is readable: nothing is missed, nobody is needed meanwhile, and a
//! worker that computes keeps no one waiting.

use std::{
    fs::File,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle, Runtime, inspect,
    net::{TcpListener, TcpStream},
    spawn,
    sync::channel,
    task::{is_imbalanced, spawn_when_readable},
    yield_now,
};

use super::{LONG, SHORT, on};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn later() -> Instant {
    Instant::now() + LONG
}

/// Begins when a byte has come and says which.
fn first_byte(stream: TcpStream, until: Instant) -> JoinHandle<Option<u8>> {
    spawn_when_readable(stream, until, |stream| {
        let mut byte = [0];
        matches!(stream.try_read(&mut byte), Ok(1)).then_some(byte[0])
    })
}

#[test]
fn it_begins_when_something_has_come_and_not_before() {
    on(1, || {
        let (mut client, stream) = pair();
        let waiting = first_byte(stream, later());
        for _ in 0..100 {
            yield_now();
        }
        assert!(!waiting.is_finished());
        client.write_all(b"x").unwrap();
        assert_eq!(waiting.join().unwrap(), Some(b'x'));
    });
}

#[test]
fn it_begins_at_once_if_something_is_there_or_the_peer_has_gone() {
    on(2, || {
        let (mut client, stream) = pair();
        client.write_all(b"y").unwrap();
        assert_eq!(first_byte(stream, later()).join().unwrap(), Some(b'y'));

        let (client, stream) = pair();
        drop(client);
        assert_eq!(first_byte(stream, later()).join().unwrap(), None);
    });
}

#[test]
fn it_begins_when_the_time_is_over_and_not_before() {
    on(1, || {
        let (_client, stream) = pair();
        let until = Instant::now() + SHORT;
        assert_eq!(first_byte(stream, until).join().unwrap(), None);
        assert!(Instant::now() >= until);
    });
}

#[test]
fn deadlines_come_in_their_order_whatever_the_order_of_arming() {
    on(1, || {
        let (ended, ends) = channel::unbounded();
        let start = Instant::now();
        let peers: Vec<_> = [900, 300, 600]
            .into_iter()
            .map(|millis| {
                let (client, stream) = pair();
                let ended = ended.clone();
                spawn_when_readable(stream, start + Duration::from_millis(millis), move |_| {
                    ended.send(millis).unwrap();
                });
                client
            })
            .collect();
        let order: Vec<u64> = (0..3).map(|_| ends.recv().unwrap()).collect();
        assert_eq!(order, [300, 600, 900]);
        drop(peers);
    });
}

#[test]
fn what_cannot_be_watched_begins_at_once() {
    on(1, || {
        let file = File::open("/proc/self/status").unwrap();
        let length = spawn_when_readable(file, later(), |mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text.len()
        });
        assert!(length.join().unwrap() > 0);
    });
}

#[test]
fn it_goes_to_another_worker_while_its_own_is_held() {
    on(2, || {
        let (mut client, stream) = pair();
        let begun = Arc::new(AtomicBool::new(false));
        let sees = begun.clone();
        // Watched here once, as by a server that has answered on it.
        stream
            .wait_readable_until(Instant::now() + SHORT)
            .unwrap_err();
        stream.unwatch();
        let held = thread::current().id();
        let waiting = spawn_when_readable(stream, later(), move |_| {
            begun.store(true, SeqCst);
            thread::current().id()
        });
        client.write_all(b"z").unwrap();
        // Computes, and gives its worker to nobody.
        let patience = Instant::now() + LONG;
        while !sees.load(SeqCst) {
            assert!(Instant::now() < patience, "nobody else took it");
            std::hint::spin_loop();
        }
        assert_ne!(waiting.join().unwrap(), held);
    });
}

/// Echoes a byte, and goes back on standby.
fn echo(stream: Arc<TcpStream>, turns: Arc<AtomicUsize>) {
    let mut byte = [0];
    if let Ok(1) = stream.try_read(&mut byte) {
        (&*stream).write_all(&byte).unwrap();
        turns.fetch_add(1, SeqCst);
    } else if stream.peek(&mut byte).is_ok_and(|count| count == 0) {
        return;
    }
    stream.unwatch();
    spawn_when_readable(stream, later(), move |stream| echo(stream, turns));
}

#[test]
fn no_byte_is_missed_over_many_hops() {
    for workers in [1, 2, 4] {
        on(workers, || {
            let turns = Arc::new(AtomicUsize::new(0));
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    let (mut client, stream) = pair();
                    let turns = turns.clone();
                    spawn_when_readable(Arc::new(stream), later(), |stream| echo(stream, turns));
                    spawn(move || {
                        for sent in 0..200u8 {
                            client.write_all(&[sent]).unwrap();
                            let mut answer = [0];
                            client.read_exact(&mut answer).unwrap();
                            assert_eq!(answer[0], sent);
                        }
                    })
                })
                .collect();
            clients
                .into_iter()
                .for_each(|client| client.join().unwrap());
            assert_eq!(turns.load(SeqCst), 8 * 200);
        });
    }
}

#[test]
fn one_that_was_cancelled_does_not_run() {
    on(1, || {
        let (mut client, stream) = pair();
        let ran = Arc::new(AtomicBool::new(false));
        let runs = ran.clone();
        let waiting = spawn_when_readable(stream, later(), move |_| runs.store(true, SeqCst));
        waiting.cancel();
        client.write_all(b"x").unwrap();
        assert!(waiting.join().unwrap_err().is_cancelled());
        assert!(!ran.load(SeqCst));
    });
}

#[test]
fn the_end_of_the_runtime_drops_what_has_not_begun() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let witness = Arc::new(());
    let (mut client, waiting) = runtime.run(|| {
        let (client, stream) = pair();
        let witness = witness.clone();
        let waiting = spawn_when_readable(stream, later(), move |_| drop(witness));
        (client, waiting)
    });
    assert!(runtime.shutdown().is_clean());
    assert_eq!(Arc::strong_count(&witness), 1);
    assert!(waiting.join().unwrap_err().is_cancelled());
    let mut byte = [0];
    assert!(!matches!(client.read(&mut byte), Ok(1..)), "it is closed");
}

#[test]
fn those_on_standby_are_counted_and_are_no_deadlock() {
    on(1, || {
        let (mut client, stream) = pair();
        let waiting = first_byte(stream, later());
        let seen = inspect::snapshot();
        assert!(seen.on_standby() >= 1);
        assert!(!seen.looks_deadlocked());
        client.write_all(b"x").unwrap();
        waiting.join().unwrap();
    });
}

#[test]
fn a_stream_that_somebody_waits_for_stays_watched() {
    on(1, || {
        let (mut client, stream) = pair();
        let stream = Arc::new(stream);
        let own = stream.clone();
        let reader = spawn(move || {
            let mut byte = [0];
            (&*own).read(&mut byte).map(|_| byte[0])
        });
        yield_now();
        stream.unwatch();
        client.write_all(b"w").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), b'w');
        stream.unwatch();
        stream.unwatch();
        client.write_all(b"v").unwrap();
        let mut byte = [0];
        assert_eq!((&*stream).read(&mut byte).unwrap(), 1);
    });
}

#[test]
fn a_worker_that_is_held_while_another_sleeps_makes_load_uneven() {
    on(2, || {
        let patience = Instant::now() + LONG;
        while !is_imbalanced() {
            assert!(Instant::now() < patience, "nobody noticed");
            let until = Instant::now() + Duration::from_millis(3);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            maniple::sleep(SHORT);
        }
    });
    on(1, || {
        let until = Instant::now() + Duration::from_millis(3);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        yield_now();
        assert!(!is_imbalanced());
    });
}
