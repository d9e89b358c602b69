//! Spawning, joining, scheduling.

use std::{
    cell::Cell,
    io::{Read, Write},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{Builder, Runtime, net::TcpListener, net::TcpStream, spawn, spawn_local, yield_now};

use super::on;

#[test]
fn a_panic_is_a_value_in_the_handle() {
    fn fall() {
        panic!("lost {}", std::hint::black_box(7))
    }
    let error = on(1, || spawn(fall).join().unwrap_err());
    assert!(error.is_panic());
    assert_eq!(
        error.into_panic().downcast_ref::<String>().unwrap(),
        "lost 7"
    );
}

#[test]
fn a_detached_coroutine_runs_and_its_result_is_dropped() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    on(2, || {
        for _ in 0..100 {
            let drops = drops.clone();
            drop(spawn(move || Counted(drops)));
        }
        while drops.load(Ordering::SeqCst) < 100 {
            yield_now();
        }
    });
    assert_eq!(drops.load(Ordering::SeqCst), 100);
}

#[test]
fn local_coroutines_share_what_threads_cannot() {
    on(2, || {
        let shared = Rc::new(Cell::new(0));
        let adders: Vec<_> = (0..10)
            .map(|n| {
                let shared = shared.clone();
                spawn_local(move || {
                    let before = shared.get();
                    yield_now();
                    shared.set(shared.get() + n);
                    before
                })
            })
            .collect();
        adders.into_iter().for_each(|adder| {
            adder.join().unwrap();
        });
        assert_eq!(shared.get(), 45);
    });
}

#[test]
fn a_coroutine_never_changes_threads() {
    on(4, || {
        let roamers: Vec<_> = (0..200)
            .map(|_| {
                spawn(|| {
                    let born = std::thread::current().id();
                    for step in 0..50 {
                        if step % 10 == 0 {
                            maniple::sleep(Duration::from_micros(50));
                        }
                        yield_now();
                        assert_eq!(std::thread::current().id(), born);
                    }
                })
            })
            .collect();
        roamers
            .into_iter()
            .for_each(|roamer| roamer.join().unwrap());
    });
}

#[test]
fn yielding_coroutines_take_turns() {
    let order = on(1, || {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let pair = [0, 1].map(|name| {
            let order = order.clone();
            spawn_local(move || {
                for _ in 0..3 {
                    order.borrow_mut().push(name);
                    yield_now();
                }
            })
        });
        pair.into_iter().for_each(|one| one.join().unwrap());
        order.take()
    });
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn neither_sockets_nor_ready_coroutines_starve_the_other() {
    on(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        let (listener, yields) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let address = listener.local_addr().unwrap();
        let spinner = spawn({
            let (stop, yields) = (stop.clone(), yields.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    yields.fetch_add(1, Ordering::SeqCst);
                    yield_now();
                }
            }
        });
        let echo = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() > 0 {
                stream.write_all(&byte).unwrap();
            }
        });
        let mut stream = TcpStream::connect(address).unwrap();
        let mut byte = [0];
        for _ in 0..200 {
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut byte).unwrap();
        }
        assert!(yields.load(Ordering::SeqCst) > 0);
        drop(stream);
        echo.join().unwrap();
        stop.store(true, Ordering::SeqCst);
        spinner.join().unwrap();
    });
}

#[test]
fn a_plain_thread_always_wakes_the_only_worker() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    for round in 0..5_000 {
        assert_eq!(runtime.run(|| round), round);
    }
}

#[test]
fn a_child_whose_spawner_computes_is_begun_elsewhere() {
    on(2, || {
        let begun = Arc::new(AtomicBool::new(false));
        let theirs = begun.clone();
        let child = spawn(move || theirs.store(true, Ordering::SeqCst));
        while !begun.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        child.join().unwrap();
    });
}

#[test]
fn limits_come_back_as_errors() {
    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(3)
        .build()
        .unwrap();
    runtime.run(|| {
        let held: Vec<_> = (0..2)
            .map(|_| Builder::new().spawn(maniple::park).unwrap())
            .collect();
        let error = Builder::new().spawn(|| ()).unwrap_err();
        assert!(error.to_string().contains("max_coroutines"), "{error}");
        let error = spawn(|| ()).join().unwrap_err();
        assert!(error.to_string().contains("could not begin"), "{error}");
        held.iter().for_each(|held| held.cancel());
        held.into_iter()
            .for_each(|held| assert!(held.join().unwrap_err().is_cancelled()));
        Builder::new().spawn(|| ()).unwrap().join().unwrap();
    });
    for size in [0, usize::MAX] {
        let error = Runtime::builder().stack_size(size).build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
    assert!(Runtime::builder().workers(0).build().is_err());
}

#[test]
fn unparking_before_parking_is_not_lost() {
    on(2, || {
        for _ in 0..1_000 {
            let me = maniple::current().unwrap();
            let other = spawn(move || me.unpark());
            maniple::park();
            other.join().unwrap();
        }
    });
}

#[test]
fn a_hundred_thousand_coroutines_park_and_end() {
    on(2, || {
        let parked: Vec<_> = (0..100_000).map(|_| spawn(maniple::park)).collect();
        parked.iter().for_each(|parked| parked.cancel());
        parked.into_iter().for_each(|parked| {
            assert!(parked.join().unwrap_err().is_cancelled());
        });
    });
}

#[test]
#[ignore = "needs 5 GiB of memory"]
fn a_million_coroutines_park_and_end() {
    on(2, || {
        let ready = Arc::new(AtomicUsize::new(0));
        let parked: Vec<_> = (0..1_000_000)
            .map(|_| {
                let ready = ready.clone();
                spawn(move || {
                    ready.fetch_add(1, Ordering::Relaxed);
                    maniple::park();
                })
            })
            .collect();
        while ready.load(Ordering::Relaxed) < parked.len() {
            yield_now();
        }
        parked.iter().for_each(|parked| parked.cancel());
        parked
            .into_iter()
            .for_each(|parked| assert!(parked.join().is_err()));
    });
}
