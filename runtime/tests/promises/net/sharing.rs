//! Sockets that several use: workers, plain threads, acceptors; and that none stays open.

use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use maniple::{
    Runtime,
    net::{TcpListener, TcpStream},
    offload, spawn,
    task::spawn_on_workers,
    yield_now,
};

use super::pair;
use crate::{SHORT, on, passes_as_child, plain_thread};

#[test]
fn a_stream_serves_coroutines_of_two_workers() {
    on(2, || {
        let (client, server) = pair();
        let (client, turn) = (Arc::new(client), Arc::new(AtomicUsize::new(0)));
        let theirs = turn.clone();
        let workers = spawn_on_workers(move |worker| {
            for round in 0..200 {
                while theirs.load(SeqCst) != 2 * round + worker {
                    yield_now();
                }
                let mut buffer = [0];
                (&*client).write_all(&[round as u8]).unwrap();
                (&*client).read_exact(&mut buffer).unwrap();
                assert_eq!(buffer, [round as u8]);
                theirs.fetch_add(1, SeqCst);
            }
        });
        let mut server = server;
        for _ in 0..400 {
            let mut buffer = [0];
            server.read_exact(&mut buffer).unwrap();
            server.write_all(&buffer).unwrap();
        }
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(turn.load(SeqCst), 400);
    });
}

#[test]
fn streams_are_dropped_by_other_workers_while_their_numbers_are_used_again() {
    on(2, || {
        let workers = spawn_on_workers(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..300 {
                let mut client = TcpStream::connect(address).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                // Off the workers, so that either of them may begin the coroutine below.
                let reader = plain_thread(move || client.read_exact(&mut [0; 4]));
                server.write_all(b"over").unwrap();
                offload(|| reader.join().unwrap().unwrap()).unwrap();
                spawn(move || drop(server)).join().unwrap();
            }
        });
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn plain_threads_use_the_same_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = plain_thread(move || {
        let mut stream = listener.incoming().next().unwrap().unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(
        client
            .wait_readable_until(Instant::now() + SHORT)
            .unwrap_err()
            .kind(),
        ErrorKind::TimedOut
    );
    client.write_all(b"from a thread").unwrap();
    drop(client);
    assert_eq!(server.join().unwrap(), "from a thread");
}

#[test]
fn acceptors_on_all_workers_share_a_listener_and_each_connection_is_accepted_once() {
    const CLIENTS: usize = 200;
    on(2, || {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let acceptors: Vec<_> = (0..8)
            .map(|_| {
                let (listener, accepted) = (listener.clone(), accepted.clone());
                spawn(move || {
                    while listener.accept().is_ok() {
                        accepted.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        // An accepted connection is closed at once: its end says that it was accepted.
        clients
            .iter_mut()
            .for_each(|client| assert_eq!(client.read(&mut [0]).unwrap(), 0));
        for acceptor in acceptors {
            acceptor.cancel();
            acceptor.join().unwrap();
        }
        assert_eq!(accepted.load(SeqCst), CLIENTS);
    });
}

#[test]
#[ignore = "counts descriptors: a child of the test below"]
fn descriptors_child() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    // One round first: what is made once and kept is no leak.
    let before = runtime.run(|| {
        churn(10);
        count()
    });
    runtime.run(|| churn(2_000));
    let after = runtime.run(count);
    assert_eq!(after, before, "descriptors are left");
    assert!(runtime.shutdown().is_clean());
}

fn churn(connections: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let answering: Vec<_> = (0..connections)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                spawn(move || {
                    let count = stream.read(&mut [0; 8]).unwrap();
                    stream.write_all(&[0; 8][..count]).unwrap();
                })
            })
            .collect();
        answering.into_iter().for_each(|one| one.join().unwrap());
    });
    for batch in 0..connections.div_ceil(100) {
        let clients: Vec<_> = (0..100.min(connections - batch * 100))
            .map(|_| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(b"x").unwrap();
                    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
                })
            })
            .collect();
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
    }
    server.join().unwrap();
}

#[test]
fn two_thousand_connections_across_two_workers_leave_no_descriptor() {
    passes_as_child("net::sharing::descriptors_child");
}
