//! A cancellation at every suspension that there is: whatever is cut, nothing is lost, doubled or left locked.

use std::{
    cell::Cell,
    io::{Read, Write},
    time::Duration,
};

use maniple::{
    cancel::{cancel_at, shield},
    net::{TcpListener, TcpStream},
    sync::{Condvar, Mutex, channel},
};

/// Runs `scenario` with a cancellation at its first suspension, its second, and so on to its last; returns
/// how many there were.
fn at_every_suspension(mut scenario: impl FnMut(u32) -> bool + Send) -> usize {
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    runtime.run(move || (0..10_000).take_while(|&after| scenario(after)).count())
}

#[test]
fn a_message_is_received_once_or_comes_back() {
    let points = at_every_suspension(|after| {
        let (sender, receiver) = channel::bounded(0);
        let (mut sent, mut received) = (0, 0);
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                let sender = &sender;
                let sent = &mut sent;
                g.spawn(move || {
                    while *sent < 5 && sender.send(*sent).is_ok() {
                        *sent += 1;
                    }
                });
                while received < 5 {
                    match receiver.recv() {
                        Ok(message) => assert_eq!(message, received),
                        Err(_) => break,
                    }
                    received += 1;
                }
                Ok::<_, ()>(())
            })
        });
        assert_eq!(sent, received);
        assert!(struck || sent == 5);
        struck
    });
    assert!(points >= 5, "{points}");
}

#[test]
fn a_lock_is_free_again_and_what_it_guards_is_whole() {
    let points = at_every_suspension(|after| {
        let (state, condvar) = (Mutex::new((0, 0)), Condvar::new());
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                g.spawn(|| {
                    for _ in 0..4 {
                        let mut state = state.lock();
                        state.0 += 1;
                        shield(|| maniple::sleep(Duration::from_micros(1)));
                        state.1 += 1;
                        condvar.notify_all();
                    }
                });
                let mut state = state.lock();
                while state.1 < 4 {
                    condvar.wait(&mut state);
                }
                Ok::<_, ()>(())
            })
        });
        let state = state.try_lock().expect("unlocked");
        assert_eq!(state.0, state.1);
        struck
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn a_socket_whose_wait_was_cut_can_be_used_again() {
    let points = at_every_suspension(|after| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                let near = &near;
                g.spawn(move || {
                    let mut near = near;
                    for n in 0..3 {
                        maniple::sleep(Duration::from_micros(100));
                        near.write_all(&[n])?;
                    }
                    Ok::<_, std::io::Error>(())
                });
                while got.len() < 3 {
                    let mut buffer = [0; 8];
                    let count = far.read(&mut buffer)?;
                    got.extend_from_slice(&buffer[..count]);
                }
                Ok::<_, std::io::Error>(())
            })
        });
        near.write_all(b"end").unwrap();
        drop(near);
        far.read_to_end(&mut got).unwrap();
        let numbers = got.strip_suffix(b"end").expect("nothing was lost");
        assert!(
            numbers.iter().copied().eq(0..numbers.len() as u8),
            "{got:?}"
        );
        struck
    });
    assert!(points >= 5, "{points}");
}

#[test]
fn destructors_run_wherever_the_cut_is() {
    struct Counted<'a>(&'a Cell<i32>);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let points = at_every_suspension(|after| {
        let inside = Cell::new(0);
        let (_, struck) = cancel_at(after, || {
            for _ in 0..3 {
                inside.set(inside.get() + 1);
                let _counted = Counted(&inside);
                maniple::sleep(Duration::from_micros(10));
                maniple::park_timeout(Duration::from_micros(10));
            }
        });
        assert_eq!(inside.get(), 0);
        struck
    });
    assert_eq!(points, 6);
}
