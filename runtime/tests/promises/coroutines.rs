//! Coroutines of their own: what they return, where they run, who gets a turn, and what is refused.

use std::{
    cell::Cell,
    collections::HashSet,
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use maniple::{JoinError, Runtime, group, sync::channel, task::Builder};

use super::{LONG, on, passes_as_child};

#[test]
fn joining_yields_the_value() {
    let values = on(2, || {
        let handles: Vec<_> = (0..100).map(|i| maniple::spawn(move || i * i)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect::<Vec<u64>>()
    });
    assert_eq!(values, (0..100).map(|i| i * i).collect::<Vec<_>>());
}

#[test]
fn joining_a_coroutine_that_panicked_yields_the_payload() {
    on(1, || {
        let error = maniple::spawn(|| std::panic::panic_any(Payload(7)))
            .join()
            .unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled() && !error.is_elapsed());
        assert_eq!(error.into_panic().downcast_ref::<Payload>().unwrap().0, 7);

        let error = maniple::spawn(|| panic!("number {}", 8))
            .join()
            .unwrap_err();
        assert_eq!(error.to_string(), "coroutine panicked: number 8");
    });
}

struct Payload(u32);

#[test]
fn a_panic_leaves_the_other_coroutines_of_the_worker_alone() {
    on(1, || {
        let survivor = maniple::spawn_local(|| {
            maniple::yield_now();
            "alive"
        });
        let faller = maniple::spawn_local(|| panic!("alone"));
        assert!(faller.join().unwrap_err().is_panic());
        assert_eq!(survivor.join().unwrap(), "alive");
    });
}

#[test]
fn dropping_the_handle_detaches_and_the_result_is_dropped_at_the_end() {
    struct Tells(mpsc::Sender<&'static str>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send("dropped").unwrap();
        }
    }
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (tell, told) = mpsc::channel();
    let (go, wait) = channel::bounded::<()>(1);
    drop(runtime.spawn(move || {
        wait.recv().unwrap();
        tell.send("ran").unwrap();
        Tells(tell)
    }));
    go.send(()).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok("ran"));
    assert_eq!(told.recv_timeout(LONG), Ok("dropped"));
}

#[test]
fn the_result_of_a_coroutine_that_has_ended_is_dropped_with_the_handle() {
    let value = Arc::new(());
    let theirs = value.clone();
    on(1, move || {
        let handle = maniple::spawn(move || theirs);
        while !handle.is_finished() {
            maniple::yield_now();
        }
        drop(handle);
    });
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_local_coroutine_shares_an_rc_with_its_spawner() {
    on(2, || {
        let (shared, home) = (Rc::new(Cell::new(0)), thread::current().id());
        let handles: Vec<_> = (1..=10)
            .map(|i| {
                let shared = shared.clone();
                maniple::spawn_local(move || {
                    assert_eq!(thread::current().id(), home);
                    maniple::yield_now();
                    shared.set(shared.get() + i);
                    Rc::downgrade(&shared)
                })
            })
            .collect();
        for handle in handles {
            assert!(handle.join().unwrap().upgrade().is_some());
        }
        assert_eq!((shared.get(), Rc::strong_count(&shared)), (55, 1));
    });
}

#[test]
#[should_panic(expected = "spawn_local must be called from a coroutine")]
fn spawning_locally_on_a_plain_thread_panics() {
    drop(maniple::spawn_local(|| ()));
}

#[test]
fn a_coroutine_has_the_name_and_the_id_that_its_handle_shows() {
    on(1, || {
        let handle = Builder::new()
            .name("clerk")
            .spawn(|| {
                let me = maniple::current().unwrap();
                (me.id(), me.name().map(String::from), me.spawned_at().file())
            })
            .unwrap();
        assert_eq!(handle.name().as_deref(), Some("clerk"));
        let shown = handle.id();
        let (id, name, file) = handle.join().unwrap();
        assert_eq!((id, name.as_deref(), file), (shown, Some("clerk"), file!()));
        assert_eq!(maniple::spawn(|| ()).name(), None);
    });
    assert!(maniple::current().is_none());
}

#[inline(never)]
fn descend(levels: usize) -> usize {
    let frame = std::hint::black_box([levels as u8; 4096]);
    match levels {
        0 => usize::from(frame[0]),
        _ => descend(levels - 1) + usize::from(frame[4095] == levels as u8),
    }
}

#[test]
fn a_larger_stack_holds_what_the_default_one_would_not() {
    on(1, || {
        let deep = |levels| move || descend(levels);
        let handle = Builder::new().stack_size(8 << 20).spawn(deep(500));
        assert_eq!(handle.unwrap().join().unwrap(), 500);
        let handle = Builder::new().stack_size(8 << 20).spawn_local(deep(500));
        assert_eq!(handle.unwrap().join().unwrap(), 500);
    });
}

#[test]
fn a_stack_size_out_of_range_is_an_error_of_the_spawn_and_of_the_runtime() {
    for bytes in [0, usize::MAX] {
        let refused = on(1, || Builder::new().stack_size(bytes).spawn(|| ()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        let refused = Runtime::builder().stack_size(bytes).build();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let refused = Runtime::builder().workers(0).build().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("workers"));
}

#[test]
fn two_that_yield_take_turns() {
    let order = on(1, || {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let handles: Vec<_> = ["a", "b"]
            .map(|name| {
                let order = order.clone();
                maniple::spawn_local(move || {
                    for _ in 0..50 {
                        order.borrow_mut().push(name);
                        maniple::yield_now();
                    }
                })
            })
            .into();
        for handle in handles {
            handle.join().unwrap();
        }
        order.take()
    });
    assert_eq!(order.len(), 100);
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

#[test]
fn coroutines_that_are_always_ready_do_not_starve_io() {
    on(1, || {
        let done = Rc::new(Cell::new(false));
        let spinners: Vec<_> = (0..10)
            .map(|_| {
                let done = done.clone();
                maniple::spawn_local(move || {
                    while !done.get() {
                        maniple::yield_now();
                    }
                })
            })
            .collect();
        let exchanged = maniple::timeout(LONG, || echo(200));
        done.set(true);
        assert_eq!(exchanged.unwrap().unwrap(), 200);
        for spinner in spinners {
            spinner.join().unwrap();
        }
    });
}

#[test]
fn io_that_is_always_ready_does_not_starve_coroutines() {
    on(1, || {
        let done = Rc::new(Cell::new(false));
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let done = done.clone();
                maniple::spawn_local(move || {
                    while !done.get() {
                        echo(100).unwrap();
                    }
                })
            })
            .collect();
        let turns = maniple::timeout(LONG, || {
            for _ in 0..1000 {
                maniple::yield_now();
            }
            maniple::sleep(Duration::from_millis(1));
        });
        done.set(true);
        assert_eq!(turns, Ok(()));
        for busy in busy {
            busy.join().unwrap();
        }
    });
}

/// Sends `rounds` bytes there and back over the loopback, one at a time.
fn echo(rounds: usize) -> io::Result<usize> {
    let listener = maniple::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = maniple::spawn_local(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = maniple::net::TcpStream::connect(address)?;
    let mut byte = [7];
    for _ in 0..rounds {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    drop(stream);
    server.join()??;
    Ok(rounds)
}

#[test]
fn a_plain_thread_wakes_the_only_worker_every_time() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (ask, asked) = channel::bounded::<u32>(1);
    let (answer, answers) = mpsc::channel();
    let echo = runtime.spawn(move || {
        for number in asked {
            answer.send(number).unwrap();
        }
    });
    // Each answer is awaited, so the worker goes to sleep between any two.
    for number in 0..10_000 {
        ask.send(number).unwrap();
        assert_eq!(answers.recv_timeout(LONG), Ok(number));
    }
    drop(ask);
    echo.join().unwrap();
    for number in 0..10_000 {
        assert_eq!(runtime.spawn(move || number).join().unwrap(), number);
    }
}

#[test]
fn a_plain_thread_spawns_on_the_default_runtime() {
    let handle = maniple::spawn(|| maniple::current().is_some());
    assert!(handle.join().unwrap());
    let handle = Builder::new().name("from outside").spawn(|| 1).unwrap();
    assert_eq!(handle.join().unwrap(), 1);
}

#[test]
fn main_may_borrow_from_its_caller() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let text = String::from("borrowed");
    let mut count = 0;
    let length = runtime.run(|| {
        count += 1;
        maniple::yield_now();
        text.len()
    });
    assert_eq!((length, count, text.as_str()), (8, 1, "borrowed"));
}

#[test]
#[should_panic(expected = "from main")]
fn a_panic_of_main_is_resumed_in_its_caller() {
    on(1, || panic!("from main"));
}

#[test]
fn beyond_the_limit_a_builder_refuses_and_a_plain_spawn_fails_its_join() {
    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(3)
        .build()
        .unwrap();
    runtime.run(|| {
        // `main` is the first of the three.
        let (go, wait) = channel::unbounded::<()>();
        let held: Vec<_> = (0..2)
            .map(|_| {
                let wait = wait.clone();
                Builder::new().spawn(move || wait.recv().is_ok()).unwrap()
            })
            .collect();
        let refused = Builder::new().spawn(|| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
        assert!(refused.to_string().contains("max_coroutines"), "{refused}");
        let ran = Arc::new(AtomicBool::new(false));
        let theirs = ran.clone();
        let error = maniple::spawn(move || theirs.store(true, Ordering::Relaxed))
            .join()
            .unwrap_err();
        assert!(!error.is_panic() && !error.is_cancelled());
        assert!(error.to_string().contains("could not begin"), "{error}");
        assert_eq!(io::Error::from(error).kind(), ErrorKind::QuotaExceeded);
        assert!(!ran.load(Ordering::Relaxed));
        drop(go);
        for handle in held {
            assert!(!handle.join().unwrap());
        }
        // What has ended makes room.
        Builder::new().spawn(|| ()).unwrap().join().unwrap();
    });
}

#[test]
fn a_hundred_thousand_short_ones_all_run() {
    let count = Arc::new(AtomicUsize::new(0));
    let theirs = count.clone();
    on(2, move || {
        let handles: Vec<_> = (0..100_000)
            .map(|_| {
                let count = theirs.clone();
                maniple::spawn(move || count.fetch_add(1, Ordering::Relaxed))
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 100_000);
}

#[test]
fn the_child_of_one_that_computes_is_begun_by_the_other_worker() {
    on(2, || {
        for _ in 0..200 {
            let begun = Arc::new(AtomicBool::new(false));
            let theirs = begun.clone();
            let child = maniple::spawn(move || theirs.store(true, Ordering::Release));
            let started = std::time::Instant::now();
            while !begun.load(Ordering::Acquire) {
                assert!(started.elapsed() < LONG / 4, "nobody took the child");
                std::hint::spin_loop();
            }
            child.join().unwrap();
        }
    });
}

#[test]
fn a_coroutine_never_changes_threads() {
    on(4, || {
        let handles: Vec<_> = (0..200)
            .map(|_| {
                maniple::spawn(|| {
                    let home = thread::current().id();
                    for round in 0..20 {
                        match round % 3 {
                            0 => maniple::yield_now(),
                            1 => maniple::sleep(Duration::from_micros(100)),
                            _ => maniple::spawn(|| ()).join().unwrap(),
                        }
                        assert_eq!(thread::current().id(), home);
                    }
                    home
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
    });
}

#[test]
fn unparking_counts_once_whether_before_the_park_or_during_it() {
    on(2, || {
        let me = maniple::current().unwrap();
        me.unpark();
        me.unpark();
        maniple::park();
        let cut = maniple::timeout(Duration::from_millis(10), maniple::park);
        assert!(cut.is_err(), "the second unpark counted");
        for _ in 0..1000 {
            let theirs = me.clone();
            let other = maniple::spawn(move || theirs.unpark());
            maniple::park();
            other.join().unwrap();
        }
        maniple::park_timeout(Duration::from_millis(1));
    });
}

#[test]
fn spawning_on_the_workers_covers_each_of_them_once() {
    on(3, || {
        let places: Vec<_> =
            maniple::task::spawn_on_workers(|index| (index, thread::current().id()))
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .collect();
        let indices: Vec<_> = places.iter().map(|place| place.0).collect();
        let threads: HashSet<_> = places.iter().map(|place| place.1).collect();
        assert_eq!((indices, threads.len()), (vec![0, 1, 2], 3));
    });
}

#[test]
fn a_builders_name_goes_with_each_way_to_spawn() {
    on(2, || {
        let peer = ([127, 0, 0, 1], 4711).into();
        let named = || Builder::new().connection_from(peer);
        let (socket, _other) = maniple::net::UnixStream::pair().unwrap();
        let own_name = || maniple::current().unwrap().name().map(String::from);
        let mut all = named().spawn_on_workers(move |_| own_name()).unwrap();
        assert_eq!(all.len(), 2);
        all.push(named().spawn(own_name).unwrap());
        all.push(named().spawn_local(own_name).unwrap());
        all.push(named().spawn_least_loaded(own_name).unwrap());
        let soon = std::time::Instant::now();
        let readable = named().spawn_when_readable(socket, soon, move |_| own_name());
        all.push(readable.unwrap());
        for handle in all {
            let name = "connection from 127.0.0.1:4711";
            assert_eq!(handle.name().as_deref(), Some(name));
            assert!(format!("{handle:?}").contains(name), "{handle:?}");
            assert_eq!(handle.join().unwrap().as_deref(), Some(name));
        }
    });
}

#[test]
fn each_way_to_spawn_refuses_a_stack_size_beyond_the_largest() {
    on(1, || {
        let huge = || Builder::new().stack_size(usize::MAX);
        let errors = [
            huge().spawn(|| ()).err(),
            huge().spawn_local(|| ()).err(),
            huge().spawn_on_workers(|_| ()).err(),
            huge().spawn_least_loaded(|| ()).err(),
        ];
        for error in errors {
            assert_eq!(error.unwrap().kind(), std::io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn what_serves_many_begins_without_locals_on_each_worker() {
    maniple::coroutine_local! {
        static REQUEST: std::cell::Cell<u32> = std::cell::Cell::new(0), inherited;
    }
    on(2, || {
        REQUEST.set(7);
        let seen = |all: Vec<maniple::JoinHandle<u32>>| {
            let all = all.into_iter().map(|one| one.join().unwrap());
            all.collect::<Vec<_>>()
        };
        let heirs = Builder::new().spawn_on_workers(|_| REQUEST.get()).unwrap();
        let services = Builder::new().without_locals();
        let services = services.spawn_on_workers(|_| REQUEST.get()).unwrap();
        assert_eq!((seen(heirs), seen(services)), (vec![7, 7], vec![0, 0]));
    });
}

#[test]
fn long_lived_coroutines_are_spread_over_the_workers() {
    on(4, || {
        let (begins, begun) = maniple::sync::channel::unbounded();
        let mut on_each = std::collections::HashMap::new();
        let waiting: Vec<_> = (0..400)
            .map(|_| {
                let begins = begins.clone();
                let handle = maniple::task::spawn_least_loaded(move || {
                    begins.send(std::thread::current().id()).unwrap();
                    let _ = maniple::sync::channel::never::<()>().recv();
                });
                // It has begun, here or elsewhere, before the next is placed.
                *on_each.entry(begun.recv().unwrap()).or_insert(0) += 1;
                handle
            })
            .collect();
        let most = on_each.into_values().max().unwrap();
        assert!(most <= 100 + 100 / 8 + 3 * 9, "{most} of 400 on one worker");
        waiting.iter().for_each(|handle| handle.cancel());
        waiting.into_iter().for_each(|handle| _ = handle.join());
    });
}

/// Takes a lock as it is dropped, as destructors may.
struct LocksInItsEnd(Arc<maniple::sync::Mutex<u32>>);

impl Drop for LocksInItsEnd {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

#[test]
fn what_a_coroutine_owned_that_never_ran_may_wait_for_a_lock_as_it_ends() {
    on(1, || {
        let count = Arc::new(maniple::sync::Mutex::new(0));
        let owned = LocksInItsEnd(count.clone());
        let never = maniple::spawn(move || drop(owned));
        never.cancel();
        let held = count.lock();
        // Until it waits for the lock: its worker goes on meanwhile.
        for _ in 0..100 {
            maniple::yield_now();
        }
        assert!(!never.is_finished());
        drop(held);
        assert!(never.join().unwrap_err().is_cancelled());
        assert_eq!(*count.lock(), 1);
    });
}

/// Holds a worker until told to let go; says once it does.
fn hold_worker(index: usize, release: &Arc<AtomicBool>) {
    let held = Arc::new(AtomicBool::new(false));
    let (holds, until) = (held.clone(), release.clone());
    drop(maniple::task::spawn_on_workers(move |worker| {
        if worker == index {
            holds.store(true, Ordering::SeqCst);
            let patience = std::time::Instant::now() + LONG;
            while !until.load(Ordering::SeqCst) && std::time::Instant::now() < patience {
                std::hint::spin_loop();
            }
        }
    }));
    while !held.load(Ordering::SeqCst) {
        maniple::yield_now();
    }
}

#[test]
fn a_worker_that_computes_keeps_nothing_that_was_offered_to_it() {
    on(3, || {
        let own = maniple::task::spawn_on_workers(|_| std::thread::current().id());
        let own: Vec<_> = own.into_iter().map(|own| own.join().unwrap()).collect();
        let here = std::thread::current().id();
        let other = own.iter().position(|&thread| thread != here).unwrap();
        let release = Arc::new(AtomicBool::new(false));
        hold_worker(other, &release);
        let park = || _ = maniple::sync::channel::never::<()>().recv();
        let parked: Vec<_> = (0..50).map(|_| maniple::spawn_local(park)).collect();
        maniple::yield_now();
        let offered: Vec<_> = (0..20)
            .map(|_| maniple::task::spawn_least_loaded(|| ()))
            .collect();
        offered
            .into_iter()
            .for_each(|offered| offered.join().unwrap());
        release.store(true, Ordering::SeqCst);
        parked.iter().for_each(|parked| parked.cancel());
        parked.into_iter().for_each(|parked| _ = parked.join());
    });
}

#[test]
fn a_worker_with_work_of_its_own_without_end_comes_to_what_it_was_assigned() {
    fn chain(go_on: Arc<AtomicBool>) {
        if go_on.load(Ordering::SeqCst) {
            drop(maniple::spawn_local(move || chain(go_on)));
        }
    }
    on(1, || {
        let go_on = Arc::new(AtomicBool::new(true));
        chain(go_on.clone());
        for assigned in maniple::task::spawn_on_workers(|worker| worker) {
            assigned.join().unwrap();
        }
        go_on.store(false, Ordering::SeqCst);
    });
}

#[test]
fn the_smallest_stack_is_enough_to_spawn_a_thousand() {
    on(1, || {
        let spawner = Builder::new().stack_size(1).spawn(|| {
            let ended = Arc::new(AtomicUsize::new(0));
            for _ in 0..1000 {
                let ended = ended.clone();
                drop(maniple::spawn(move || {
                    ended.fetch_add(1, Ordering::SeqCst);
                }));
            }
            while ended.load(Ordering::SeqCst) < 1000 {
                maniple::yield_now();
            }
        });
        spawner.unwrap().join().unwrap();
    });
}

#[test]
fn a_result_of_a_sixth_of_a_stack_goes() {
    passes_as_child("coroutines::large_results_child");
}

#[test]
#[ignore = "might overflow a stack: a child of the test before it"]
fn large_results_child() {
    type Large = [u8; 40 << 10];
    let last = |large: &Large| std::hint::black_box(large)[(40 << 10) - 1];
    on(1, || {
        let spacious = Builder::new().stack_size(4 << 20).spawn(move || {
            let child = maniple::spawn(|| -> Large { [7; 40 << 10] });
            assert_eq!(last(&child.join().unwrap()), 7);
            // A child's is moved once more, or several times where nothing is optimised.
            if !cfg!(debug_assertions) {
                let made: Result<Large, JoinError> = group(|g| g.spawn(|| [8; 40 << 10]).join());
                assert_eq!(last(&made.unwrap()), 8);
            }
            let captured: Large = std::hint::black_box([9; 40 << 10]);
            let reads = maniple::spawn(move || last(&captured));
            assert_eq!(reads.join().unwrap(), 9);
        });
        spacious.unwrap().join().unwrap();
    });
}
