//! Channels and locks across coroutines, workers and plain threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{
    spawn,
    sync::{
        Condvar, Mutex,
        channel::{
            self, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError,
            TrySendError,
        },
    },
    yield_now,
};

use super::on;

const SHORT: Duration = Duration::from_millis(10);

#[test]
fn every_message_arrives_once_and_in_its_senders_order() {
    for capacity in [Some(0), Some(1), Some(64), None] {
        on(2, || {
            let (send, receive) = match capacity {
                Some(capacity) => channel::bounded(capacity),
                None => channel::unbounded(),
            };
            let senders: Vec<_> = (0..4u64)
                .map(|name| {
                    let send = send.clone();
                    spawn(move || (0..500u64).for_each(|n| send.send((name, n)).unwrap()))
                })
                .collect();
            let thread =
                std::thread::spawn(move || (0..500u64).for_each(|n| send.send((9, n)).unwrap()));
            let receivers: Vec<_> = (0..3)
                .map(|_| {
                    let receive = receive.clone();
                    spawn(move || receive.iter().collect::<Vec<_>>())
                })
                .collect();
            drop(receive);
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
            // Joining it here would hold up a worker that it may be waiting for.
            maniple::offload(|| thread.join().unwrap()).unwrap();
            let mut all = Vec::new();
            for receiver in receivers {
                let got = receiver.join().unwrap();
                for name in [0, 1, 2, 3, 9] {
                    let own: Vec<_> = got.iter().filter(|(from, _)| *from == name).collect();
                    assert!(own.is_sorted(), "{capacity:?}");
                }
                all.extend(got);
            }
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 2_500, "{capacity:?}");
        });
    }
}

#[test]
fn a_channel_drains_before_it_reports_disconnection() {
    let (send, receive) = channel::bounded(2);
    send.send(1).unwrap();
    assert_eq!(send.len(), 1);
    drop(send);
    assert_eq!(receive.recv(), Ok(1));
    assert_eq!(receive.recv(), Err(RecvError::Disconnected));
    assert_eq!(receive.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_message_that_is_not_sent_comes_back() {
    on(1, || {
        let (send, receive) = channel::bounded(1);
        send.send(1).unwrap();
        assert_eq!(send.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(
            send.send_timeout(3, SHORT),
            Err(SendTimeoutError::Timeout(3))
        );
        let theirs = send.clone();
        let cut = spawn(move || theirs.send(4));
        yield_now();
        cut.cancel();
        assert_eq!(cut.join().unwrap(), Err(SendError::Cancelled(4)));
        let waiting = spawn({
            let send = send.clone();
            move || send.send(5)
        });
        yield_now();
        drop(receive);
        assert_eq!(waiting.join().unwrap(), Err(SendError::Disconnected(5)));
        assert_eq!(send.send(6), Err(SendError::Disconnected(6)));
    });
}

#[test]
fn a_channel_of_no_capacity_hands_over() {
    on(1, || {
        let (send, receive) = channel::bounded(0);
        assert_eq!(send.try_send(1), Err(TrySendError::Full(1)));
        let sender = spawn(move || send.send(2));
        assert_eq!(receive.recv(), Ok(2));
        sender.join().unwrap().unwrap();
        assert_eq!(
            receive.recv_timeout(SHORT),
            Err(RecvTimeoutError::Disconnected)
        );
    });
}

#[test]
fn the_mutex_excludes_coroutines_and_threads() {
    let total = Arc::new(Mutex::new(0u64));
    on(2, || {
        let adders: Vec<_> = (0..8)
            .map(|_| {
                let total = total.clone();
                spawn(move || {
                    for _ in 0..1_000 {
                        let mut guard = total.lock();
                        let before = *guard;
                        if before % 64 == 0 {
                            yield_now();
                        }
                        *guard = before + 1;
                    }
                })
            })
            .collect();
        let theirs = total.clone();
        let thread = std::thread::spawn(move || (0..1_000).for_each(|_| *theirs.lock() += 1));
        adders.into_iter().for_each(|adder| adder.join().unwrap());
        maniple::offload(|| thread.join().unwrap()).unwrap();
    });
    assert_eq!(*total.lock(), 9_000);
}

#[test]
fn a_holder_that_comes_back_at_once_does_not_starve_a_waiter() {
    on(1, || {
        let (mutex, got) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let greedy = spawn({
            let (mutex, got) = (mutex.clone(), got.clone());
            move || {
                while !got.load(Ordering::SeqCst) {
                    let guard = mutex.lock();
                    yield_now();
                    drop(guard);
                }
            }
        });
        yield_now();
        let patient = spawn(move || {
            let _guard = mutex.lock();
            got.store(true, Ordering::SeqCst);
        });
        patient.join().unwrap();
        greedy.join().unwrap();
    });
}

#[test]
fn condvars_wake_one_or_all_and_time_out() {
    on(2, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let shared = shared.clone();
                spawn(move || {
                    let mut count = shared.0.lock();
                    shared.1.wait_while(&mut count, |count| *count == 0);
                    *count -= 1;
                })
            })
            .collect();
        *shared.0.lock() = 1;
        shared.1.notify_one();
        *shared.0.lock() += 9;
        shared.1.notify_all();
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap());
        let mut count = shared.0.lock();
        assert_eq!(*count, 0);
        assert!(shared.1.wait_timeout(&mut count, SHORT).timed_out());
    });
}
