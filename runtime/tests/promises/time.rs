//! Sleeps and timers, and what it costs to do nothing else.

use std::time::{Duration, Instant};

use maniple::{Runtime, sync::channel};

use super::{LONG, SHORT, on, passes_as_child};

#[test]
fn a_sleep_is_never_too_short() {
    let spans = [0, 1, 50, 999, 1000, 1001, 3333, 20_000].map(Duration::from_micros);
    let sleep = |span| {
        let begun = Instant::now();
        maniple::sleep(span);
        assert!(begun.elapsed() >= span, "{span:?}");
        let until = Instant::now() + span;
        maniple::sleep_until(until);
        assert!(Instant::now() >= until, "{span:?}");
    };
    on(2, || {
        let handles: Vec<_> = (0..20)
            .map(|_| maniple::spawn(move || spans.into_iter().for_each(sleep)))
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
    });
    spans.into_iter().for_each(sleep);
}

#[test]
fn sleepers_wake_in_the_order_of_their_times() {
    let order = on(1, || {
        let (tell, told) = channel::unbounded();
        let start = Instant::now() + Duration::from_millis(20);
        for number in [7, 2, 9, 4, 0, 5, 8, 1, 6, 3_u32] {
            let tell = tell.clone();
            maniple::spawn(move || {
                maniple::sleep_until(start + Duration::from_millis(5) * number);
                tell.send(number).unwrap();
            });
        }
        drop(tell);
        told.iter().collect::<Vec<_>>()
    });
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}

/// A worker remembers when its next timer is due, and must learn of each that is armed for sooner, or is no more.
#[test]
fn a_short_sleep_ends_in_its_time_whatever_longer_ones_begin_or_end_around_it() {
    on(1, || {
        let sleeper = |span: Duration| maniple::spawn(move || maniple::sleep(span));
        let far = sleeper(20 * LONG);
        for round in 0..20 {
            let longer = [10, 15].map(|times| sleeper(times * LONG));
            maniple::sleep(SHORT);
            let shorter = sleeper(SHORT);
            let [ended, kept] = longer;
            ended.cancel();
            ended.join().unwrap_err();
            if round % 2 == 0 {
                maniple::yield_now();
            }
            shorter.join().unwrap();
            kept.cancel();
            maniple::sleep(SHORT / 10);
            kept.join().unwrap_err();
        }
        far.cancel();
        far.join().unwrap_err();
    });
}

#[test]
fn a_hundred_thousand_sleepers_all_wake_and_none_too_early() {
    on(2, || {
        let handles: Vec<_> = (0..100_000_u64)
            .map(|i| {
                maniple::spawn(move || {
                    let span = Duration::from_micros(i * 7919 % 200_000);
                    let begun = Instant::now();
                    maniple::sleep(span);
                    begun.elapsed() >= span
                })
            })
            .collect();
        assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
    });
}

#[test]
fn a_hundred_thousand_timers_that_never_fire_are_disarmed() {
    on(1, || {
        let (send, receive) = channel::bounded(0);
        let sender = maniple::spawn_local(move || {
            for i in 1..=100_000_u64 {
                send.send(i).unwrap();
            }
        });
        for i in 1..=100_000_u64 {
            assert_eq!(receive.recv_timeout(Duration::from_secs(i)), Ok(i));
        }
        sender.join().unwrap();
        let cut: Vec<_> = (0..1000)
            .map(|_| {
                let handle = maniple::spawn_local(|| maniple::sleep(LONG));
                maniple::yield_now();
                handle.cancel();
                handle
            })
            .collect();
        for handle in cut {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_time_too_far_to_express_is_never_reached() {
    on(1, || {
        let (begin, begun) = channel::bounded(1);
        let forever = maniple::spawn(move || {
            begin.send(()).unwrap();
            maniple::timeout(Duration::MAX, || maniple::sleep(Duration::MAX))
        });
        let far = maniple::spawn(|| maniple::sleep(Duration::from_secs(100 * 365 * 86_400)));
        begun.recv().unwrap();
        let cut = maniple::timeout(SHORT, || maniple::sleep(Duration::MAX));
        assert!(cut.is_err());
        assert!(!forever.is_finished() && !far.is_finished());
        forever.cancel();
        far.cancel();
        assert!(forever.join().unwrap_err().is_cancelled());
        assert!(far.join().unwrap_err().is_cancelled());
    });
}

/// What this process has used of its processors.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn idle_workers_use_no_processor_time() {
    passes_as_child("time::idle_child");
}

#[test]
#[ignore = "reads a clock that counts all threads of a process: a child of the test above"]
fn idle_child() {
    let runtime = Runtime::builder().workers(4).build().unwrap();
    let sleeper = runtime.spawn(|| maniple::sleep(LONG));
    let idle = || {
        let (never, nothing) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
        let span = Duration::from_millis(300);
        let guard = never.lock().unwrap();
        drop(nothing.wait_timeout_while(guard, span, |()| true).unwrap());
    };
    idle();
    let before = cpu_time();
    idle();
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(30), "{used:?} in 300 ms");
    sleeper.cancel();
    assert!(sleeper.join().is_err());
}
