//! Every order of small programs, and orders by priorities.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    JoinHandle, panics, select,
    sim::{self, Order, World},
    sync::{
        Barrier, Condvar, Mutex, Notify, OnceLock, RwLock, Semaphore, broadcast, channel, oneshot,
        watch,
    },
};

pub fn crowd(count: usize, each: impl Fn(usize) + Clone + Send + 'static) -> Vec<JoinHandle<()>> {
    let spawn = |number| {
        let each = each.clone();
        maniple::spawn(move || each(number))
    };
    (0..count).map(spawn).collect()
}

pub fn join(all: Vec<JoinHandle<()>>) {
    all.into_iter().for_each(|each| each.join().unwrap());
}

/// The values that a run leaves, over all of a check.
#[derive(Clone)]
struct Seen<T>(Arc<StdMutex<BTreeSet<T>>>);

impl<T: Ord> Seen<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn add(&self, value: T) {
        self.0.lock().unwrap().insert(value);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn message_of(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let failed = std::panic::catch_unwind(check).expect_err("the check fails");
    panics::message(&*failed).unwrap().to_owned()
}

#[test]
fn every_order_of_three_who_do_not_wait_is_met_once() {
    let seen = Seen::new();
    let theirs = seen.clone();
    let orders = sim::check_orders(0, move |_| {
        let order = Arc::new(StdMutex::new(Vec::new()));
        let own = order.clone();
        join(crowd(3, move |number| own.lock().unwrap().push(number)));
        theirs.add(order.lock().unwrap().clone());
    });
    assert_eq!(seen.len(), 6);
    assert!(orders >= 6, "{orders}");
}

#[test]
fn what_a_scenario_draws_takes_each_of_its_values() {
    let seen = Seen::new();
    let theirs = seen.clone();
    let orders = sim::check_orders(0, move |world| {
        theirs.add((world.draw(0..3), world.draw(5..7)));
    });
    assert_eq!((orders, seen.len()), (6, 6));
}

/// Reads, has others go on, and writes: an update is lost if these did the same meanwhile.
fn lose_updates(times: usize) {
    let sum = Arc::new(Mutex::new(0));
    let theirs = sum.clone();
    join(crowd(2, move |_| {
        for _ in 0..times {
            let before = *theirs.lock();
            *theirs.lock() = before + 1;
        }
    }));
    assert_eq!(*sum.lock(), 2 * times, "no update is lost");
}

#[test]
fn a_fault_that_takes_one_preemption_is_found_with_one_and_not_without() {
    sim::check_orders(0, |_| lose_updates(2));
    let text = message_of(|| _ = sim::check_orders(1, |_| lose_updates(2)));
    assert!(
        text.contains("no update is lost") && text.contains("MANIPLE_SIM_ORDER="),
        "{text}"
    );
}

#[test]
#[ignore = "run by another test, with an order in its environment"]
fn an_order_that_fails() {
    sim::check_orders(1, |_| lose_updates(1));
}

#[test]
fn the_line_of_a_failing_order_runs_it_again() {
    let run = |order: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["orders::an_order_that_fails", "--exact", "--ignored"]);
        if let Some(order) = order {
            command.env(sim::ORDER_VARIABLE, order);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = run(None);
    let order = all.split("MANIPLE_SIM_ORDER=").nth(1).unwrap();
    let order = order.split_whitespace().next().unwrap();
    let alone = run(Some(order));
    assert!(alone.contains(&format!("order {order} failed")), "{alone}");
    assert!(alone.contains("no update is lost"), "{alone}");
}

#[test]
fn a_scenario_that_does_not_follow_from_its_order_is_told_so() {
    let times = Arc::new(AtomicUsize::new(0));
    let text = message_of(std::panic::AssertUnwindSafe(move || {
        sim::check_orders(0, move |world| {
            let time = times.fetch_add(1, Ordering::Relaxed) as u64;
            world.draw(0..2 + time % 2);
            world.draw(0..2);
        });
    }));
    assert!(text.contains("does not follow from"), "{text}");
}

#[test]
fn a_claim_that_holds_sometimes_must_hold_in_some_order() {
    sim::check_orders(0, |world| sim::sometimes!(world.draw(0..4) == 3));
    let text = message_of(|| {
        sim::check_orders(0, |world| sim::sometimes!(world.draw(0..4) == 4));
    });
    assert!(text.contains("held in no"), "{text}");
}

/// One looks twice, and fails if all of the other's many steps lay between.
fn stand_still(steps: usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let other = count.clone();
    let counting = maniple::spawn(move || {
        for _ in 0..steps {
            other.fetch_add(1, Ordering::Relaxed);
            sim::point();
        }
    });
    let looking = maniple::spawn(move || {
        let first = count.load(Ordering::Relaxed);
        sim::point();
        let second = count.load(Ordering::Relaxed);
        assert!((first, second) != (0, steps), "all went by in between");
    });
    counting.join().unwrap();
    looking.join().unwrap();
}

#[test]
fn by_priorities_one_change_is_met_that_no_drawn_turns_meet() {
    let fails_by =
        |order| (0..1000).find(|&seed| sim::run_by(order, seed, |_| stand_still(50)).is_err());
    assert_eq!(fails_by(Order::Drawn), None);
    assert_eq!(fails_by(Order::Priorities { changes: 0 }), None);
    let seed = fails_by(Order::Priorities { changes: 1 });
    assert!(seed.is_some());
    println!("found by seed {seed:?}");
}

#[test]
fn by_priorities_the_same_seed_gives_the_same_trace() {
    let scenario = |world: &World| {
        let sum = Arc::new(Mutex::new(0));
        let (own, theirs) = (world.clone(), sum.clone());
        join(crowd(4, move |_| {
            for _ in 0..4 {
                let _sum = theirs.lock();
                maniple::sleep(Duration::from_micros(own.draw(0..3)));
            }
        }));
    };
    let order = Order::Priorities { changes: 2 };
    let traces = || -> Vec<u64> {
        let trace = |seed| sim::run_by(order, seed, scenario).unwrap().trace();
        (0..50).map(trace).collect()
    };
    let (first, second) = (traces(), traces());
    assert_eq!(first, second);
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 40);
}

#[test]
fn a_loop_that_gives_way_until_another_is_there_ends_in_any_order() {
    let wait = || {
        let flag = Arc::new(AtomicBool::new(false));
        let theirs = flag.clone();
        let waits = maniple::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                maniple::yield_now();
            }
        });
        let sets = maniple::spawn(move || flag.store(true, Ordering::Relaxed));
        waits.join().unwrap();
        sets.join().unwrap();
    };
    sim::check_by(Order::Priorities { changes: 2 }, 0..100, move |_| wait());
    sim::check_by(Order::InTurn, 0..2, move |_| wait());
    sim::check_orders(2, move |_| wait());
}

// What this crate has to meet by, in every order with up to two preemptions.

#[test]
fn a_mutex_lets_one_in_at_a_time_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let shared = Arc::new((Mutex::new(0), AtomicUsize::new(0)));
        let theirs = shared.clone();
        join(crowd(3, move |_| {
            let mut count = theirs.0.lock();
            sim::always!(theirs.1.fetch_add(1, Ordering::Relaxed) == 0);
            maniple::yield_now();
            theirs.1.fetch_sub(1, Ordering::Relaxed);
            *count += 1;
        }));
        assert_eq!(*shared.0.lock(), 3);
    });
    println!("{orders} orders");
}

#[test]
fn a_lock_goes_to_all_who_wait_in_every_order_though_one_is_cancelled() {
    let orders = sim::check_orders(2, |_| {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.lock();
        let token = maniple::cancel::CancelToken::new();
        let (cut, theirs) = (token.clone(), lock.clone());
        let cancelled = maniple::spawn(move || {
            _ = cut.run(|| *theirs.lock() += 1);
        });
        let theirs = lock.clone();
        let patient = maniple::spawn(move || *theirs.lock() += 1);
        sim::point();
        token.cancel();
        sim::point();
        drop(held);
        cancelled.join().unwrap();
        patient.join().unwrap();
        assert_eq!(*lock.lock(), 2);
    });
    println!("{orders} orders");
}

#[test]
fn a_writer_is_alone_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let pair = Arc::new(RwLock::new((0, 0)));
        let theirs = pair.clone();
        join(crowd(3, move |number| match number {
            0 => {
                let mut pair = theirs.write();
                pair.0 += 1;
                maniple::yield_now();
                pair.1 += 1;
            }
            _ => {
                let pair = theirs.read();
                maniple::yield_now();
                sim::always!(pair.0 == pair.1);
            }
        }));
        assert_eq!(*pair.read(), (1, 1));
    });
    println!("{orders} orders");
}

#[test]
fn a_condition_is_never_missed_in_any_order() {
    let orders = sim::check_orders(2, |_| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = shared.clone();
        let takers = crowd(2, move |_| {
            let mut items = theirs.0.lock();
            while *items == 0 {
                theirs.1.wait(&mut items);
            }
            *items -= 1;
        });
        for _ in 0..2 {
            *shared.0.lock() += 1;
            sim::point();
            shared.1.notify_one();
        }
        join(takers);
        assert_eq!(*shared.0.lock(), 0);
    });
    println!("{orders} orders");
}

#[test]
fn a_condition_that_is_told_before_its_lock_is_taken_is_missed_in_some_order() {
    let text = message_of(|| {
        sim::check_orders(2, |_| {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let theirs = shared.clone();
            let waits = maniple::spawn(move || {
                // The fault: it looks, lets go, and waits.
                if !*theirs.0.lock() {
                    let mut is_set = theirs.0.lock();
                    theirs.1.wait(&mut is_set);
                }
            });
            *shared.0.lock() = true;
            sim::point();
            shared.1.notify_one();
            waits.join().unwrap();
        });
    });
    assert!(text.contains("deadlock"), "{text}");
}

#[test]
fn permits_are_never_lost_in_any_order() {
    let orders = sim::check_orders(2, |_| {
        let permits = Arc::new(Semaphore::new(1));
        let token = maniple::cancel::CancelToken::new();
        let (theirs, cut) = (permits.clone(), token.clone());
        let all = crowd(2, move |number| {
            let take = || drop(theirs.acquire());
            match number {
                0 => drop(cut.run(take)),
                _ => take(),
            }
        });
        sim::point();
        token.cancel();
        join(all);
        assert_eq!(permits.available(), 1);
    });
    println!("{orders} orders");
}

#[test]
fn a_barrier_has_one_leader_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let shared = Arc::new((Barrier::new(3), AtomicUsize::new(0)));
        let theirs = shared.clone();
        join(crowd(3, move |_| {
            sim::point();
            let leads = theirs.0.wait().is_leader();
            theirs.1.fetch_add(usize::from(leads), Ordering::Relaxed);
        }));
        assert_eq!(shared.1.load(Ordering::Relaxed), 1);
    });
    println!("{orders} orders");
}

#[test]
fn a_notification_goes_to_one_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let notify = Arc::new(Notify::new());
        let token = maniple::cancel::CancelToken::new();
        let (theirs, cut) = (notify.clone(), token.clone());
        let cut = maniple::spawn(move || cut.run(|| theirs.notified()).is_ok());
        let theirs = notify.clone();
        let patient = maniple::spawn(move || theirs.notified());
        sim::point();
        notify.notify_one();
        sim::point();
        token.cancel();
        let had = cut.join().unwrap();
        if had {
            notify.notify_one();
        }
        patient.join().unwrap();
        sim::sometimes!(had);
        sim::sometimes!(!had);
    });
    println!("{orders} orders");
}

#[test]
fn what_is_made_once_is_made_once_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let cell = Arc::new(OnceLock::new());
        let made = Arc::new(AtomicUsize::new(0));
        let (theirs, count) = (cell.clone(), made.clone());
        join(crowd(3, move |number| {
            let value = *theirs.get_or_init(|| {
                count.fetch_add(1, Ordering::Relaxed);
                maniple::yield_now();
                number
            });
            sim::always!(theirs.get() == Some(&value));
        }));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    });
    println!("{orders} orders");
}

fn each_message_comes_once(capacity: usize) {
    let orders = sim::check_orders(1, move |_| {
        let (sender, receiver) = channel::bounded(capacity);
        let got = Arc::new(StdMutex::new(Vec::new()));
        let senders = crowd(2, {
            let sender = sender.clone();
            move |number| sender.send(number).unwrap()
        });
        drop(sender);
        let theirs = got.clone();
        let receivers = crowd(2, move |_| {
            while let Ok(message) = receiver.recv() {
                theirs.lock().unwrap().push(message);
            }
        });
        join(senders);
        join(receivers);
        let mut got = got.lock().unwrap().clone();
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
    });
    println!("{orders} orders");
}

#[test]
fn each_message_of_a_rendezvous_comes_once_in_every_order() {
    each_message_comes_once(0);
}

#[test]
fn each_message_of_a_bounded_channel_comes_once_in_every_order() {
    each_message_comes_once(1);
}

#[test]
fn a_select_takes_one_message_and_leaves_the_other_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let (one, of_one) = channel::bounded(1);
        let (two, of_two) = channel::bounded(1);
        let first = maniple::spawn(move || one.send(1).unwrap());
        let second = maniple::spawn(move || two.send(2).unwrap());
        let took = select! {
            recv(of_one) -> message => message.unwrap(),
            recv(of_two) -> message => message.unwrap(),
        };
        first.join().unwrap();
        second.join().unwrap();
        let left: Vec<i32> = of_one.try_iter().chain(of_two.try_iter()).collect();
        assert_eq!(left, [3 - took]);
        sim::sometimes!(took == 1);
        sim::sometimes!(took == 2);
    });
    println!("{orders} orders");
}

#[test]
fn two_selects_that_meet_agree_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let (to, from) = channel::bounded::<u8>(0);
        let (back, answers) = channel::bounded::<u8>(0);
        let one = maniple::spawn({
            let (to, answers) = (to.clone(), answers.clone());
            move || {
                select! {
                    send(to, 1) -> sent => { sent.unwrap(); 'a' },
                    recv(answers) -> _ => 'b',
                }
            }
        });
        let other = maniple::spawn({
            let (from, back) = (from.clone(), back.clone());
            move || {
                select! {
                    recv(from) -> _ => 'a',
                    send(back, 2) -> sent => { sent.unwrap(); 'b' },
                }
            }
        });
        assert_eq!(one.join().unwrap(), other.join().unwrap());
        drop((to, from, back, answers));
    });
    println!("{orders} orders");
}

#[test]
fn one_message_reaches_or_is_given_back_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let (sender, receiver) = oneshot::channel();
        let sends = maniple::spawn(move || sender.send(7).is_ok());
        let takes = maniple::spawn(move || receiver.recv().is_ok());
        assert!(sends.join().unwrap());
        assert!(takes.join().unwrap());

        let (sender, receiver) = oneshot::channel();
        let sends = maniple::spawn(move || sender.send(7).is_ok());
        let leaves = maniple::spawn(move || drop(receiver));
        let sent = sends.join().unwrap();
        leaves.join().unwrap();
        sim::sometimes!(sent);
        sim::sometimes!(!sent);
    });
    println!("{orders} orders");
}

#[test]
fn the_latest_value_is_seen_in_every_order() {
    let orders = sim::check_orders(2, |_| {
        let (sender, receiver) = watch::channel(0);
        let seen = crowd(2, move |_| {
            let mut receiver = receiver.clone();
            while *receiver.borrow_and_update() < 2 {
                receiver.changed().unwrap();
            }
        });
        for number in 1..3 {
            sim::point();
            sender.send(number).unwrap();
        }
        join(seen);
    });
    println!("{orders} orders");
}

#[test]
fn each_receiver_hears_each_broadcast_message_in_every_order() {
    let orders = sim::check_orders(1, |_| {
        let (sender, first) = broadcast::channel(4, broadcast::Lag::Block);
        let second = sender.subscribe();
        let all: Vec<_> = [first, second]
            .into_iter()
            .map(|receiver| {
                maniple::spawn(move || {
                    let mut receiver = receiver;
                    std::iter::from_fn(|| receiver.recv().ok()).collect::<Vec<_>>()
                })
            })
            .collect();
        for number in 0..2 {
            sender.send(number).unwrap();
        }
        drop(sender);
        for each in all {
            assert_eq!(each.join().unwrap(), [0, 1]);
        }
    });
    println!("{orders} orders");
}

#[test]
fn no_child_outlives_its_group_in_any_order() {
    let orders = sim::check_orders(2, |world| {
        let present = AtomicUsize::new(0);
        let fails = world.draw(0..2) == 1;
        let ended = maniple::group(|g| {
            for _ in 0..2 {
                g.spawn(|| {
                    present.fetch_add(1, Ordering::Relaxed);
                    let _out = Out(&present);
                    maniple::yield_now();
                });
            }
            sim::point();
            match fails {
                true => Err(()),
                false => Ok(()),
            }
        });
        assert_eq!(ended.is_err(), fails);
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
    println!("{orders} orders");
}

struct Out<'a>(&'a AtomicUsize);

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_race_has_one_winner_in_every_order() {
    let orders = sim::check_orders(1, |_| {
        let present = AtomicUsize::new(0);
        let runners = (0..2).map(|number| {
            let present = &present;
            move || {
                present.fetch_add(1, Ordering::Relaxed);
                let _out = Out(present);
                maniple::yield_now();
                Ok::<_, ()>(number)
            }
        });
        let won = maniple::group::race(runners).unwrap();
        sim::sometimes!(won == 0);
        sim::sometimes!(won == 1);
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
    println!("{orders} orders");
}
