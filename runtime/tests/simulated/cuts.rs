//! Calls that a world cuts short at a drawn moment: when that comes, and what this crate leaves behind it.

use std::{
    cell::Cell,
    collections::BTreeSet,
    io::{Read, Write},
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::{self, Cancelled},
    group,
    net::{TcpListener, TcpStream},
    panics, select,
    sim::{self, Order, World},
    sync::{Condvar, Mutex, Notify, OnceLock, RwLock, Semaphore, channel, oneshot},
};

const MICRO: Duration = Duration::from_micros(1);

fn pause(world: &World) {
    maniple::sleep(world.draw(1..100) as u32 * MICRO);
}

/// Sleeps so often; how often it had when it was cut short, or ended.
fn sleeps(times: u32) -> (u32, Result<(), Cancelled>) {
    let done = Cell::new(0);
    let ended = sim::cut(|| {
        for _ in 0..times {
            maniple::sleep(MICRO);
            done.set(done.get() + 1);
        }
    });
    (done.get(), ended)
}

#[test]
fn outside_of_a_world_a_call_is_just_made() {
    let called = || sim::cut(|| (maniple::sleep(MICRO), cancel::is_cancelled()).1);
    assert_eq!(called(), Ok(false));
    assert_eq!(maniple::run(called), Ok(false));
}

#[test]
fn a_cut_comes_at_any_wait_or_never() {
    let seen = Arc::new(StdMutex::new(BTreeSet::new()));
    let theirs = seen.clone();
    sim::check(0..300, move |_| {
        let (done, ended) = sleeps(5);
        assert_eq!(ended.is_ok(), done == 5);
        theirs.lock().unwrap().insert(done);
    });
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([0, 1, 2, 3, 4, 5]));
}

#[test]
fn a_cut_comes_early_and_late_in_a_long_call() {
    sim::check(0..300, |_| {
        let (done, ended) = sleeps(1000);
        sim::sometimes!(done < 3);
        sim::sometimes!((50..150).contains(&done));
        sim::sometimes!((300..520).contains(&done));
        sim::sometimes!(ended.is_ok());
    });
}

#[test]
fn what_a_call_returns_is_kept_and_a_cut_behind_it_is_none() {
    sim::check(0..200, |_| {
        let ended = sim::cut(|| {
            cancel::shield(|| (0..20).for_each(|_| maniple::sleep(MICRO)));
            cancel::is_cancelled()
        });
        sim::sometimes!(ended == Ok(true));
        sim::sometimes!(ended == Ok(false));
        // Others that are under way go on, and so does this one.
        (0..100).for_each(|_| maniple::sleep(MICRO));
        assert!(ended.is_ok() && !cancel::is_cancelled());
    });
}

#[test]
fn calls_within_calls_are_each_cut_short_for_themselves() {
    sim::check(0..500, |_| {
        let outer = sim::cut(|| {
            let inner = sim::cut(|| (0..10).for_each(|_| maniple::sleep(MICRO)));
            maniple::sleep(MICRO);
            inner
        });
        sim::sometimes!(outer == Ok(Ok(())));
        sim::sometimes!(outer == Ok(Err(Cancelled)));
        sim::sometimes!(outer == Err(Cancelled));
    });
}

/// Exchanges with a host, by several who are cut short.
fn exchanges(world: &World) {
    let _server = world.host("server", || {
        let listener = TcpListener::bind("0.0.0.0:7").unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            drop(maniple::spawn(move || {
                let mut byte = [0];
                let serve = || {
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                };
                _ = sim::cut(serve);
            }));
        }
    });
    world.settle();
    group::map(3, 0..6, |number: u8| {
        let exchange = || {
            let mut stream = TcpStream::connect("server:7")?;
            for _ in 0..10 {
                let mut byte = [number];
                stream.write_all(&byte)?;
                stream.read_exact(&mut byte)?;
                sim::always!(byte == [number]);
            }
            Ok::<_, std::io::Error>(())
        };
        sim::sometimes!(matches!(sim::cut(exchange), Ok(Ok(()))));
    });
}

#[test]
fn the_same_seed_cuts_at_the_same_turns() {
    let order = Order::Priorities { changes: 2 };
    let runs = || -> Vec<_> {
        let drawn = (0..200).map(|seed| sim::run(seed, exchanges).unwrap());
        let others = (0..50).map(|seed| sim::run_by(order, seed, exchanges).unwrap());
        drawn.chain(others).collect()
    };
    let (first, second) = (runs(), runs());
    assert_eq!(first, second);
    let different: BTreeSet<_> = first.iter().map(|run| run.trace()).collect();
    assert_eq!(different.len(), first.len());
}

#[test]
fn a_world_is_the_same_up_to_its_cut_and_the_record_says_where_that_was() {
    let told = |seed, cuts: bool| {
        let (run, record) = sim::record(seed, move |world| {
            let waits = || (0..5).for_each(|_| pause(world));
            match cuts {
                true => _ = sim::cut(waits),
                false => waits(),
            }
        });
        (run.unwrap(), record.text(), record.svg())
    };
    let mut were_cut = 0;
    for seed in 0..50 {
        let ((plain, expected, _), (cut, text, svg)) = (told(seed, false), told(seed, true));
        let Some((before, after)) = text.split_once("scenario: cut short, in the call at ") else {
            assert_eq!((plain, expected), (cut, text));
            continue;
        };
        were_cut += 1;
        let lines = before.rsplit_once('\n').map_or("", |(lines, _)| lines);
        assert!(expected.starts_with(lines), "{expected}\n{text}");
        assert!(after.starts_with(file!()), "{text}");
        assert!(svg.contains("cut short"), "{svg}");
        assert_ne!(plain.trace(), cut.trace());
    }
    assert!((10..40).contains(&were_cut), "{were_cut}");
}

#[test]
fn a_smaller_world_is_without_cuts_that_the_failure_does_not_take() {
    let failed = std::panic::catch_unwind(|| {
        sim::check(0..100, |_| {
            let sleeps = || (0..9).for_each(|_| maniple::sleep(MICRO));
            let (_, ended) = maniple::join!(sim::cut(sleeps), sim::cut(sleeps));
            assert!(ended.is_ok(), "the second is cut short");
        });
    });
    let failed = failed.expect_err("the check fails");
    let text = panics::message(&*failed).unwrap();
    let smaller = text.split("smaller world").nth(1).unwrap_or_default();
    let with = smaller.split("  with\n").nth(1).unwrap_or_default();
    assert_eq!(
        with.matches("a call that is cut short").count(),
        1,
        "{text}"
    );
}

/// Moves from one account to another; between the two it waits.
fn transfer(accounts: &Mutex<[i32; 2]>, gives_back: bool) {
    struct Taken<'a>(&'a Mutex<[i32; 2]>, bool);
    impl Drop for Taken<'_> {
        fn drop(&mut self) {
            if self.1 {
                self.0.lock()[0] += 1;
            }
        }
    }
    accounts.lock()[0] -= 1;
    let mut taken = Taken(accounts, gives_back);
    maniple::sleep(MICRO);
    accounts.lock()[1] += 1;
    taken.1 = false;
}

#[test]
fn a_call_that_leaves_a_half_is_found_by_cuts_alone() {
    let scenario = |cuts: bool, gives_back: bool| {
        move |_: &World| {
            let accounts = Mutex::new([10, 10]);
            group::map(3, 0..6, |_| match cuts {
                true => _ = sim::cut(|| transfer(&accounts, gives_back)),
                false => transfer(&accounts, gives_back),
            });
            assert_eq!(accounts.lock().iter().sum::<i32>(), 20, "nothing is lost");
        }
    };
    sim::check(0..200, scenario(false, false));
    let failure = (0..200).find_map(|seed| sim::run(seed, scenario(true, false)).err());
    let failure = failure.expect("the fault is found");
    assert!(failure.what().contains("nothing is lost"), "{failure}");
    sim::check(0..200, scenario(true, true));
}

#[test]
fn in_every_order_a_call_is_cut_short_before_each_turn() {
    let seen = Arc::new(StdMutex::new(BTreeSet::new()));
    let theirs = seen.clone();
    let orders = sim::check_orders(0, move |_| {
        theirs.lock().unwrap().insert(sleeps(3).0);
    });
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([0, 1, 2, 3]));
    // Before each turn of it, and each look at what comes while it sleeps; or not at all.
    assert!((4..20).contains(&orders), "{orders}");
    let failed = std::panic::catch_unwind(|| {
        sim::check_orders(0, |_| {
            let accounts = Mutex::new([1, 0]);
            _ = sim::cut(|| transfer(&accounts, false));
            assert_eq!(accounts.lock().iter().sum::<i32>(), 1, "nothing is lost");
        });
    });
    let failed = failed.expect_err("the fault is found");
    let text = panics::message(&*failed).unwrap();
    assert!(text.contains("nothing is lost"), "{text}");
}

// What this crate leaves behind a cut.

#[test]
fn in_every_order_a_cut_costs_no_permit_no_message_and_no_notification() {
    let permits = sim::check_orders(2, |_| {
        let permits = Semaphore::new(1);
        let (_, ended) = maniple::join!(
            permits.acquire().map(|_permit| sim::point()),
            sim::cut(|| permits.acquire().map(|_permit| sim::point()).is_ok())
        );
        sim::sometimes!(ended == Ok(true));
        sim::sometimes!(ended == Ok(false));
        assert_eq!(permits.available(), 1);
    });
    let senders = sim::check_orders(2, |_| {
        let (sender, receiver) = channel::bounded(0);
        let (sent, received) =
            maniple::join!(sim::cut(|| sender.send(1)), receiver.recv_timeout(MICRO));
        sim::sometimes!(received.is_ok());
        sim::sometimes!(received.is_err());
        assert_eq!(matches!(sent, Ok(Ok(()))), received.is_ok());
    });
    let receivers = sim::check_orders(2, |_| {
        let (sender, receiver) = channel::bounded(1);
        let (received, ()) = maniple::join!(sim::cut(|| receiver.recv()), sender.send(1).unwrap());
        let is_left = receiver.try_recv().is_ok();
        sim::sometimes!(is_left);
        sim::sometimes!(!is_left);
        assert_eq!(matches!(received, Ok(Ok(1))), !is_left);
    });
    let notifications = sim::check_orders(2, |_| {
        let notify = Notify::new();
        let passed_on = || {
            let told = sim::cut(|| notify.notified()).is_ok();
            if told {
                notify.notify_one();
            }
            told
        };
        let (told, (), ()) = maniple::join!(passed_on(), notify.notify_one(), notify.notified());
        sim::sometimes!(told);
        sim::sometimes!(!told);
    });
    println!("{permits}, {senders}, {receivers} and {notifications} orders");
}

#[test]
fn who_is_cut_short_keeps_no_permit_and_no_place_in_a_queue() {
    sim::check(sim::seeds(200), |world| {
        let permits = Semaphore::new(3);
        let inside = AtomicUsize::new(0);
        group::map(6, 0..18, |number| {
            let wanted = 1 + number % 3;
            let ended = sim::cut(|| {
                let permit = permits.acquire_many(wanted).ok()?;
                let before = inside.fetch_add(wanted, Ordering::Relaxed);
                sim::always!(before + wanted <= 3, "{before} and {wanted}");
                let held = sim::cut(|| pause(world));
                inside.fetch_sub(wanted, Ordering::Relaxed);
                drop(permit);
                Some(held)
            });
            // A cut of the outer call takes the inner one along, which then does not count itself out.
            if let Err(Cancelled) = ended {
                inside.fetch_sub(wanted, Ordering::Relaxed);
            }
            sim::sometimes!(ended == Ok(None));
            sim::sometimes!(ended.is_err());
            sim::sometimes!(ended == Ok(Some(Ok(()))));
        });
        assert_eq!((permits.available(), inside.into_inner()), (3, 0));
    });
}

#[test]
fn a_message_is_with_its_sender_its_receiver_or_in_the_channel() {
    sim::check(sim::seeds(200), |world| {
        let (sender, receiver) = channel::bounded(world.draw(0..3) as usize);
        let (other, others) = channel::bounded::<u32>(1);
        let [sent, received] = [(); 2].map(|()| Mutex::new(Vec::new()));
        maniple::group(|g| {
            for first in [0, 100] {
                let (sender, sent) = (sender.clone(), &sent);
                g.spawn(move || {
                    for number in first..first + 5 {
                        let ended = sim::cut(|| sender.send(number));
                        if let Ok(Ok(())) = ended {
                            sent.lock().push(number);
                        }
                        sim::sometimes!(matches!(ended, Ok(Err(_)) | Err(_)));
                    }
                });
                let (receiver, others, received) = (receiver.clone(), others.clone(), &received);
                g.spawn(move || {
                    loop {
                        let taken = sim::cut(|| {
                            select! {
                                recv(receiver) -> taken => taken,
                                recv(others) -> _ => unreachable!("nothing is sent"),
                            }
                        });
                        match taken {
                            Ok(Ok(number)) => received.lock().push(number),
                            Ok(Err(channel::RecvError::Disconnected)) => break,
                            // Cut short.
                            Ok(Err(_)) | Err(_) => sim::sometimes!(true),
                        }
                    }
                });
            }
            drop(sender);
            drop(receiver);
            Ok::<_, ()>(())
        })
        .unwrap();
        drop(other);
        let [mut sent, mut received] = [sent, received].map(Mutex::into_inner);
        sent.sort_unstable();
        received.sort_unstable();
        assert_eq!(sent, received);
    });
}

#[test]
fn locks_conditions_and_values_are_there_for_others_after_a_cut() {
    sim::check(sim::seeds(200), |world| {
        let (items, added) = (Mutex::new(0), Condvar::new());
        let (pair, once) = (RwLock::new((0, 0)), OnceLock::new());
        let made = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        maniple::group(|g| {
            for _ in 0..3 {
                g.spawn(|| {
                    let ended = sim::cut(|| {
                        let mut items = items.lock();
                        while *items == 0 {
                            added.wait(&mut items);
                        }
                        *items -= 1;
                        taken.fetch_add(1, Ordering::Relaxed);
                    });
                    sim::sometimes!(ended.is_err());
                    _ = sim::cut(|| {
                        let mut pair = pair.write();
                        // Who holds a lock over a wait leaves a half; this one does not wait there.
                        *pair = (pair.0 + 1, pair.1 + 1);
                        drop(pair);
                        pause(world);
                    });
                    let seen = sim::cut(|| {
                        *once.get_or_init(|| {
                            pause(world);
                            made.fetch_add(1, Ordering::Relaxed) + 1
                        })
                    });
                    sim::always!(seen.is_err() || seen == Ok(1));
                    sim::sometimes!(seen.is_err());
                });
            }
            for _ in 0..3 {
                pause(world);
                *items.lock() += 1;
                added.notify_one();
            }
            // Who has been cut short has passed its notification on, if it had one.
            world.settle();
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(*items.lock() + taken.into_inner(), 3);
        assert_eq!(*pair.read(), (3, 3));
        assert_eq!(*once.get_or_init(|| made.load(Ordering::Relaxed) + 1), 1);
    });
}

/// Counts who is there, and is there no more once it is dropped.
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_group_or_policy_that_is_cut_short_leaves_nobody_behind() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let work = |number: u64| {
            let _present = Present::among(&present);
            pause(world);
            // What must not be cut in half holds the group up, and no more.
            cancel::shield(|| pause(world));
            match world.draw(0..3) {
                0 => Err(number),
                _ => Ok(number),
            }
        };
        let calls = || (0..4).map(|number| move || work(number));
        let patience = Duration::from_millis(1);
        for policy in 0..6 {
            let ended = sim::cut(|| match policy {
                0 => _ = group::race(calls()),
                1 => _ = group::quorum(2, calls()),
                2 => _ = group::map(2, 0..5, work),
                3 => _ = group::hedge(20 * MICRO, |attempt| work(attempt as u64)),
                4 => _ = group::partial_timeout(patience, calls()),
                _ => {
                    _ = maniple::group(|g| {
                        for number in 0..3 {
                            g.spawn(move || {
                                let (one, _) = maniple::join!(work(number), sim::cut(|| work(9)));
                                one
                            });
                        }
                        work(3).map(drop)
                    });
                }
            });
            assert_eq!(present.load(Ordering::Relaxed), 0, "{policy}: {ended:?}");
            sim::sometimes!(ended.is_err());
            sim::sometimes!(ended.is_ok());
        }
    });
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_goes_back_to_who_gave_it() {
    sim::check(sim::seeds(200), |world| {
        let (give, given) = oneshot::channel();
        let (taken, given) = maniple::join!(sim::cut(|| given.recv()), {
            pause(world);
            give.send(7)
        });
        let is_taken = matches!(taken, Ok(Ok(7)));
        // Either has it, or it was dropped with the receiver's end after it was given.
        assert!(!(is_taken && given.is_err()));
        sim::sometimes!(is_taken);
        sim::sometimes!(given.is_err());
    });
}
