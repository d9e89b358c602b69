//! Wait groups, locks that are taken again, the unbounded channel and parking, in every order with up to two preemptions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::CancelToken,
    sim,
    sync::{ReadRecursive, ReentrantMutex, RwLock, WaitGroup, channel},
    time::now,
};

use super::orders::{crowd, join};

#[test]
fn all_who_wait_for_a_group_go_on_once_its_work_is_done() {
    let orders = sim::check_orders(2, |_| {
        let group = WaitGroup::new();
        let done = Arc::new(AtomicUsize::new(0));
        let work = {
            let (group, done) = (group.clone(), done.clone());
            crowd(2, move |_| {
                // Each has a handle from the beginning, which it drops last.
                let _ = &group;
                maniple::yield_now();
                done.fetch_add(1, Ordering::Relaxed);
            })
        };
        let waits = {
            let (handle, done) = (group.clone(), done.clone());
            maniple::spawn(move || {
                handle.wait();
                sim::always!(done.load(Ordering::Relaxed) == 2);
            })
        };
        group.wait();
        sim::always!(done.load(Ordering::Relaxed) == 2);
        waits.join().unwrap();
        join(work);
    });
    println!("{orders} orders");
}

#[test]
fn a_wait_for_a_group_that_is_cut_short_gives_its_handle_back() {
    let orders = sim::check_orders(2, |_| {
        let group = WaitGroup::new();
        let token = CancelToken::new();
        let (handle, cut) = (group.clone(), token.clone());
        let waits = maniple::spawn(move || cut.run(|| handle.wait()).is_ok());
        let handle = group.clone();
        let works = maniple::spawn(move || drop(handle));
        let other = maniple::spawn(move || group.wait());
        sim::point();
        token.cancel();
        let waited = waits.join().unwrap();
        works.join().unwrap();
        other.join().unwrap();
        sim::sometimes!(waited);
        sim::sometimes!(!waited);
    });
    println!("{orders} orders");
}

#[test]
fn who_holds_a_reentrant_mutex_locks_it_again_and_others_wait_for_the_last_guard() {
    let orders = sim::check_orders(2, |_| {
        let shared = Arc::new((ReentrantMutex::new(()), AtomicUsize::new(0)));
        let theirs = shared.clone();
        join(crowd(3, move |number| {
            let (mutex, inside) = &*theirs;
            let outer = mutex.lock();
            sim::always!(inside.fetch_add(1, Ordering::Relaxed) == 0);
            let inner = mutex.lock();
            sim::point();
            // Either may go first.
            drop(match number {
                0 => outer,
                _ => inner,
            });
            sim::point();
            sim::always!(inside.fetch_sub(1, Ordering::Relaxed) == 1);
        }));
        assert!(!shared.0.is_locked());
    });
    println!("{orders} orders");
}

#[test]
fn who_reads_reads_again_before_a_writer_that_waits() {
    let orders = sim::check_orders(2, |_| {
        let pair = Arc::new(RwLock::new((0, 0)));
        let theirs = pair.clone();
        join(crowd(3, move |number| match number {
            0 => {
                let mut pair = theirs.write();
                pair.0 += 1;
                sim::point();
                pair.1 += 1;
            }
            _ => {
                let outer = theirs.read();
                sim::point();
                let inner = theirs.read_recursive();
                sim::always!(*outer == *inner && inner.0 == inner.1);
            }
        }));
        assert_eq!(*pair.read(), (1, 1));
    });
    println!("{orders} orders");
}

#[test]
fn a_recursive_read_waits_for_who_writes() {
    let orders = sim::check_orders(2, |_| {
        let pair = Arc::new(RwLock::new((0, 0)));
        let theirs = pair.clone();
        join(crowd(3, move |number| match number {
            0 | 1 => {
                let mut pair = theirs.write();
                pair.0 += 1;
                sim::point();
                pair.1 += 1;
            }
            _ => {
                let pair = theirs.read_recursive();
                sim::always!(pair.0 == pair.1);
                sim::point();
                sim::always!(pair.0 == pair.1);
            }
        }));
        assert_eq!(*pair.read(), (2, 2));
    });
    println!("{orders} orders");
}

#[test]
fn messages_of_an_unbounded_channel_come_once_and_those_of_one_sender_in_order() {
    let orders = sim::check_orders(2, |_| {
        let (sender, receiver) = channel::unbounded();
        let senders = crowd(2, move |number| {
            for nth in 0..2 {
                sender.send((number, nth)).unwrap();
            }
        });
        let mut got = Vec::new();
        while let Ok(message) = receiver.recv() {
            got.push(message);
        }
        for number in 0..2 {
            let own: Vec<_> = got.iter().filter(|each| each.0 == number).collect();
            assert_eq!(own, [&(number, 0), &(number, 1)]);
        }
        assert_eq!(got.len(), 4);
        join(senders);
    });
    println!("{orders} orders");
}

#[test]
fn a_receive_that_is_cut_short_leaves_the_message_of_an_unbounded_channel_to_others() {
    let orders = sim::check_orders(2, |_| {
        let (sender, receiver) = channel::unbounded();
        let token = CancelToken::new();
        let (theirs, cut) = (receiver.clone(), token.clone());
        let receives = maniple::spawn(move || matches!(cut.run(|| theirs.recv()), Ok(Ok(7))));
        let sends = maniple::spawn(move || sender.send(7).unwrap());
        sim::point();
        token.cancel();
        let had = receives.join().unwrap();
        sends.join().unwrap();
        assert_eq!(receiver.recv().is_ok(), !had);
        sim::sometimes!(had);
        sim::sometimes!(!had);
    });
    println!("{orders} orders");
}

#[test]
fn who_parks_goes_on_whenever_it_is_unparked() {
    let orders = sim::check_orders(2, |_| {
        let told = Arc::new(AtomicUsize::new(0));
        let me = maniple::current().unwrap();
        let theirs = told.clone();
        let unparks = crowd(2, move |_| {
            theirs.fetch_add(1, Ordering::Relaxed);
            sim::point();
            me.unpark();
        });
        // Two may have come before the first wait, and leave one token.
        while told.load(Ordering::Relaxed) < 2 {
            sim::point();
            maniple::park();
        }
        join(unparks);
    });
    println!("{orders} orders");
}

#[test]
fn those_who_unpark_before_the_wait_leave_one_token() {
    const LONG: Duration = Duration::from_millis(5);
    let orders = sim::check_orders(2, |_| {
        let me = maniple::current().unwrap();
        join(crowd(2, move |_| me.unpark()));
        let begun = now();
        maniple::park_timeout(LONG);
        assert_eq!(now() - begun, Duration::ZERO);
        maniple::park_timeout(LONG);
        assert_eq!(now() - begun, LONG);
    });
    println!("{orders} orders");
}

#[test]
fn a_park_that_is_cut_short_leaves_the_token_for_the_next() {
    let orders = sim::check_orders(2, |_| {
        let (me, token) = (maniple::current().unwrap(), CancelToken::new());
        let cut = token.clone();
        let others = crowd(2, move |number| match number {
            0 => me.unpark(),
            _ => cut.cancel(),
        });
        sim::point();
        let had = token.run(maniple::park).is_ok();
        if !had {
            maniple::park();
        }
        join(others);
        sim::sometimes!(had);
        sim::sometimes!(!had);
    });
    println!("{orders} orders");
}
