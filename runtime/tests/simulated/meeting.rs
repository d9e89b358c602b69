//! Locks, permits and channels, whatever the order in which coroutines come by, and where they are cut short.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    JoinHandle,
    sim::{self, World},
    sync::{Barrier, Condvar, Mutex, Notify, RwLock, Semaphore, channel},
};

/// Sleeps, gives way or goes on.
fn dawdle(world: &World) {
    match world.draw(0..4) {
        0 => maniple::sleep(Duration::from_micros(world.draw(1..100))),
        1 => maniple::yield_now(),
        _ => {}
    }
}

fn crowd(count: usize, each: impl Fn(usize) + Clone + Send + 'static) -> Vec<JoinHandle<()>> {
    let spawn = |number| {
        let each = each.clone();
        maniple::spawn(move || each(number))
    };
    (0..count).map(spawn).collect()
}

fn join(all: Vec<JoinHandle<()>>) {
    for each in all {
        each.join().unwrap();
    }
}

#[test]
fn a_mutex_lets_one_in_at_a_time_and_everybody_in_the_end() {
    sim::check(sim::seeds(200), |world| {
        let (count, inside) = (Arc::new(Mutex::new(0)), Arc::new(AtomicUsize::new(0)));
        let (theirs, world) = (count.clone(), world.clone());
        join(crowd(5, move |_| {
            for _ in 0..4 {
                let mut count = theirs.lock();
                sim::always!(inside.fetch_add(1, Ordering::Relaxed) == 0);
                dawdle(&world);
                *count += 1;
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        }));
        assert_eq!(*count.lock(), 20);
    });
}

#[test]
fn a_writer_is_alone_and_readers_see_whole_values() {
    sim::check(sim::seeds(200), |world| {
        let pair = Arc::new(RwLock::new((0, 0)));
        let (theirs, world) = (pair.clone(), world.clone());
        join(crowd(6, move |number| {
            for _ in 0..3 {
                if number < 2 {
                    let mut pair = theirs.write();
                    pair.0 += 1;
                    dawdle(&world);
                    pair.1 += 1;
                } else {
                    let pair = theirs.read();
                    dawdle(&world);
                    sim::always!(pair.0 == pair.1);
                }
            }
        }));
        assert_eq!(*pair.read(), (6, 6));
    });
}

#[test]
fn no_more_have_permits_than_there_are_and_those_who_give_up_keep_none() {
    sim::check(sim::seeds(200), |world| {
        let permits = Arc::new(Semaphore::new(2));
        let inside = Arc::new(AtomicUsize::new(0));
        let (theirs, within, own) = (permits.clone(), inside.clone(), world.clone());
        join(crowd(6, move |_| {
            for _ in 0..3 {
                let patience = Duration::from_micros(own.draw(1..150));
                let cut = maniple::timeout(patience, || {
                    let Ok(_permit) = theirs.acquire() else {
                        return false;
                    };
                    /// So that who is cut short counts itself out.
                    struct Out<'a>(&'a AtomicUsize);
                    impl Drop for Out<'_> {
                        fn drop(&mut self) {
                            self.0.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    let before = within.fetch_add(1, Ordering::Relaxed);
                    let _out = Out(&within);
                    sim::always!(before < 2, "{before} others");
                    maniple::sleep(Duration::from_micros(own.draw(1..100)));
                    true
                });
                sim::sometimes!(cut.is_err());
                sim::sometimes!(cut == Ok(false));
                sim::sometimes!(cut == Ok(true));
            }
        }));
        assert_eq!(
            (permits.available(), inside.load(Ordering::Relaxed)),
            (2, 0)
        );
    });
}

#[test]
fn a_condition_that_is_told_under_its_lock_is_never_missed() {
    sim::check(sim::seeds(200), |world| {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let theirs = shared.clone();
        let takers = crowd(3, move |_| {
            for _ in 0..2 {
                let mut items = theirs.0.lock();
                while items.is_empty() {
                    theirs.1.wait(&mut items);
                }
                items.pop();
            }
        });
        for item in 0..6 {
            dawdle(world);
            shared.0.lock().push(item);
            shared.1.notify_one();
        }
        join(takers);
        assert!(shared.0.lock().is_empty());
    });
}

#[test]
fn a_barrier_lets_all_go_on_together_with_one_leader_a_time() {
    sim::check(sim::seeds(200), |world| {
        let barrier = Arc::new(Barrier::new(4));
        let (arrived, led) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (theirs, leaders, world) = (arrived.clone(), led.clone(), world.clone());
        join(crowd(4, move |_| {
            for time in 1..=3 {
                dawdle(&world);
                theirs.fetch_add(1, Ordering::Relaxed);
                if barrier.wait().is_leader() {
                    leaders.fetch_add(1, Ordering::Relaxed);
                }
                sim::always!(theirs.load(Ordering::Relaxed) >= 4 * time);
            }
        }));
        assert_eq!(led.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn each_message_comes_once_and_those_of_a_sender_in_order() {
    sim::check(sim::seeds(200), |world| {
        let (sender, receiver) = channel::bounded(world.draw(0..4) as usize);
        let own = world.clone();
        let senders = crowd(3, {
            let sender = sender.clone();
            move |number| {
                for message in 0..5 {
                    dawdle(&own);
                    sender.send((number, message)).unwrap();
                }
            }
        });
        drop(sender);
        let received = Arc::new(Mutex::new(Vec::new()));
        let (theirs, own) = (received.clone(), world.clone());
        let receivers = crowd(2, move |_| {
            let mut latest = [None; 3];
            loop {
                let patience = Duration::from_micros(own.draw(1..200));
                match receiver.recv_timeout(patience) {
                    Ok((number, message)) => {
                        sim::always!(latest[number] < Some(message));
                        latest[number] = Some(message);
                        theirs.lock().push((number, message));
                    }
                    Err(channel::RecvTimeoutError::Timeout) => {}
                    Err(_) => break,
                }
            }
        });
        join(senders);
        join(receivers);
        let received = received.lock();
        let different: BTreeSet<_> = received.iter().collect();
        assert_eq!((received.len(), different.len()), (15, 15));
    });
}

#[test]
fn a_notification_that_reached_who_gave_up_goes_to_the_next() {
    sim::check(sim::seeds(200), |world| {
        let notify = Arc::new(Notify::new());
        let theirs = notify.clone();
        let patient = maniple::spawn(move || theirs.notified());
        let theirs = notify.clone();
        let patience = Duration::from_micros(world.draw(1..100));
        let impatient = maniple::spawn(move || maniple::timeout(patience, || theirs.notified()));
        maniple::sleep(Duration::from_micros(world.draw(1..100)));
        notify.notify_one();
        world.settle();
        let gave_up = impatient.join().unwrap().is_err();
        sim::sometimes!(gave_up);
        if !gave_up {
            notify.notify_one();
        }
        patient.join().unwrap();
    });
}
