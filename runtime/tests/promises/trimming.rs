//! Stacks of coroutines that wait give back what they do not need, and lose nothing that they do.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use maniple::{
    Runtime, inspect,
    runtime::{Builder, StackGuard},
    sync::{Barrier, Notify},
    task,
};

use crate::{LONG, passes_as_child};

const PAGE: usize = 4096;

fn builder(name: &str) -> Builder {
    let builder = Runtime::builder().workers(1).thread_name(name);
    builder.idle_trim(Some(Duration::from_millis(1)))
}

fn stacks_of(runtime: &str) -> inspect::Stacks {
    let mut all = inspect::stacks().into_iter();
    all.find(|stacks| stacks.runtime() == runtime).unwrap()
}

/// Waits, on a plain thread, until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}: {}", inspect::dump());
        pause(Duration::from_millis(1));
    }
}

fn pause(time: Duration) {
    let (_kept, never) = mpsc::channel::<()>();
    assert!(never.recv_timeout(time).is_err());
}

/// Calls `bottom` so many frames further down, and holds that each frame, half a KiB at the least, is unharmed
/// afterwards, in unwinding too.
#[inline(never)]
fn dig(frames: usize, seed: u64, bottom: &mut dyn FnMut()) {
    struct Frame([u64; 64]);
    impl Frame {
        fn expected(seed: u64, index: usize) -> u64 {
            (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }
    }
    struct Checked(Frame, u64);
    impl Drop for Checked {
        fn drop(&mut self) {
            let Checked(Frame(words), seed) = black_box(self);
            for (index, word) in words.iter().enumerate() {
                assert_eq!(*word, Frame::expected(*seed, index), "{seed} {index}");
            }
        }
    }
    let words = std::array::from_fn(|index| Frame::expected(seed, index));
    let _frame = black_box(Checked(Frame(words), seed));
    match frames {
        0 => bottom(),
        _ => dig(frames - 1, seed + 1, bottom),
    }
}

#[inline(never)]
fn dig_and_return(frames: usize) {
    dig(frames, 7, &mut || {});
}

fn coroutine(name: &str) -> Option<inspect::Coroutine> {
    let seen = inspect::snapshot();
    seen.coroutines()
        .find(|coroutine| coroutine.name() == Some(name))
        .cloned()
}

/// A coroutine that has been 60 frames deep waits ten deep: what lay deeper is given back, what lives is kept.
fn trims_and_goes_on(name: &'static str, guard: StackGuard, panics: bool) {
    let runtime = builder(name).stack_guard(guard).build().unwrap();
    let go = Arc::new(Notify::new());
    let waited_for = go.clone();
    let waiting = maniple::task::Builder::new().name(name);
    let waiting = runtime.spawn_with(waiting, move || {
        dig_and_return(60);
        dig(10, 3, &mut || {
            waited_for.notified();
            assert!(!panics, "from ten frames deep");
            dig_and_return(60);
        });
        42
    });
    let waiting = waiting.unwrap();
    until("trimmed", || stacks_of(name).trimmed() == 1);
    let bytes = stacks_of(name).trimmed_bytes() as usize;
    let seen = coroutine(name).unwrap();
    assert!(seen.depth() > 10 * 512, "{seen:?}");
    assert!(bytes >= 4 * PAGE, "{bytes} given back");
    let touched = seen.touched().unwrap();
    assert!(touched <= seen.depth() + 2 * PAGE, "{touched}: {seen:?}");
    go.notify_one();
    match waiting.join() {
        Ok(value) => assert_eq!((value, panics), (42, false)),
        Err(error) => {
            let payload = error.into_panic();
            let text = payload.downcast_ref::<&str>().copied();
            assert_eq!((text, panics), (Some("from ten frames deep"), true));
        }
    }
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn what_lies_below_a_waiting_coroutine_is_given_back_and_its_frames_are_kept() {
    trims_and_goes_on("trim-deep", StackGuard::Auto, false);
}

#[test]
fn protected_pages_stay_where_they_are() {
    trims_and_goes_on("trim-pages", StackGuard::Mprotect, false);
}

#[test]
fn a_trimmed_stack_unwinds() {
    trims_and_goes_on("trim-unwinds", StackGuard::Auto, true);
}

#[test]
fn a_stack_is_trimmed_anew_after_each_turn_that_went_deep() {
    let name = "trim-again";
    let runtime = builder(name).build().unwrap();
    let go = Arc::new(Notify::new());
    let waited_for = go.clone();
    let waiting = runtime.spawn(move || {
        for _ in 0..3 {
            dig_and_return(30);
            waited_for.notified();
        }
    });
    for times in 1..=3 {
        until("trimmed", || stacks_of(name).trimmed() == times);
        go.notify_one();
    }
    waiting.join().unwrap();
    assert!(stacks_of(name).trimmed_bytes() >= 3 * PAGE as u64);
}

#[test]
fn once_all_is_trimmed_a_worker_sleeps_until_it_is_woken() {
    passes_as_child("trimming::rests_child");
}

#[test]
#[ignore = "other tests' snapshots wake its worker: a child of the test above"]
fn rests_child() {
    let name = "trim-rests";
    let runtime = builder(name).build().unwrap();
    let go = Arc::new(Notify::new());
    for _ in 0..100 {
        let go = go.clone();
        drop(runtime.spawn(move || {
            dig_and_return(30);
            go.notified();
        }));
    }
    until("trimmed", || stacks_of(name).trimmed() == 100);
    let sleeps = || {
        let seen = inspect::snapshot();
        let own = |worker: &&inspect::Worker| worker.name().starts_with(name);
        seen.workers().iter().find(own).unwrap().sleeps()
    };
    // One sleep for each time it is asked, and none in between, for tens of sweeps' time.
    until("asleep", || {
        let before = sleeps();
        pause(Duration::from_millis(50));
        sleeps() == before + 1
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_worker_that_is_never_idle_trims_too() {
    let name = "trim-busy";
    let runtime = builder(name).build().unwrap();
    let go = Arc::new(Notify::new());
    let waited_for = go.clone();
    let waiting = runtime.spawn(move || {
        dig_and_return(30);
        waited_for.notified();
    });
    let end = Arc::new(AtomicBool::new(false));
    let ended = end.clone();
    let busy = runtime.spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            maniple::yield_now();
        }
    });
    until("trimmed", || stacks_of(name).trimmed() == 1);
    end.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    go.notify_one();
    waiting.join().unwrap();
}

#[test]
fn who_wants_no_trimming_gets_none() {
    let keeps = builder("trim-off").idle_trim(None).build().unwrap();
    let trims = builder("trim-on").build().unwrap();
    let go = Arc::new(Notify::new());
    for (runtime, name) in [(&keeps, "trim-kept"), (&trims, "trim-given")] {
        let go = go.clone();
        let waiting = maniple::task::Builder::new().name(name);
        let waiting = runtime.spawn_with(waiting, move || {
            dig_and_return(30);
            go.notified();
        });
        drop(waiting.unwrap());
        let waits = |coroutine: inspect::Coroutine| coroutine.waits_for().is_some();
        until("waits", || coroutine(name).is_some_and(waits));
    }
    until("trimmed", || stacks_of("trim-on").trimmed() == 1);
    assert_eq!(stacks_of("trim-off").trimmed(), 0);
}

#[test]
fn free_stacks_that_nobody_needs_give_back_their_memory() {
    let name = "trim-pool";
    let runtime = builder(name).build().unwrap();
    runtime.run(|| {
        // All of them are there at the same time.
        let together = Arc::new(Barrier::new(1000));
        let waits = || {
            let together = together.clone();
            maniple::spawn(move || _ = together.wait())
        };
        let all: Vec<_> = (0..1000).map(|_| waits()).collect();
        all.into_iter().for_each(|handle| handle.join().unwrap());
    });
    until("cold", || {
        let stacks = stacks_of(name);
        stacks.warm() == 0 && stacks.live() == 0 && stacks.cold() == stacks.high_water()
    });
}

#[test]
fn times_out_of_range_are_refused_by_name() {
    for after in [Duration::ZERO, Duration::from_micros(1), Duration::MAX] {
        let error = builder("trim-refused").idle_trim(Some(after)).build();
        let error = error.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("idle_trim is"), "{error}");
    }
}

/// Coroutines of random depths wait for random times, while sweeps follow each other as fast as they may, until
/// hundreds of them were trimmed.
fn keeps_every_frame(name: &'static str, guard: StackGuard) {
    let seed = 0x5eed_u64;
    let runtime = builder(name).workers(2).stack_guard(guard).build().unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let one = |own: u64| {
        let end = end.clone();
        runtime.spawn(move || {
            let mut state = (seed + own).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            while !end.load(Ordering::Relaxed) {
                dig_and_return(random(60) as usize);
                let (deep, wait) = (random(40) as usize, random(20));
                let deeper = random(20) as usize;
                dig(deep, own, &mut || {
                    maniple::sleep(Duration::from_millis(wait));
                    dig_and_return(deeper);
                    maniple::sleep(Duration::from_millis(wait / 2));
                });
            }
        })
    };
    let all: Vec<_> = (0..64).map(one).collect();
    until("trimmed", || {
        let lost = all.iter().any(|handle| handle.is_finished());
        lost || stacks_of(name).trimmed() > 300
    });
    end.store(true, Ordering::Relaxed);
    for handle in all {
        let ended = handle.join();
        ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn no_frame_is_lost_wherever_a_coroutine_waits() {
    keeps_every_frame("trim-stress", StackGuard::Auto);
}

#[test]
fn no_frame_is_lost_between_protected_pages() {
    keeps_every_frame("trim-stress-pages", StackGuard::Mprotect);
}

#[test]
fn a_coroutine_that_waits_on_another_librarys_stack_is_left_alone() {
    // Mapped before the runtime's, and so above them in most cases.
    let foreign = corosensei::stack::DefaultStack::new(1 << 20).unwrap();
    let name = "trim-foreign";
    let runtime = builder(name).build().unwrap();
    let waiting = runtime.spawn_with(task::Builder::new().name(name), move || {
        let canary = black_box([0xa5_u8; 64]);
        let mut inner = corosensei::Coroutine::<(), (), (), _>::with_stack(foreign, |_, ()| {
            // Some sweeps' time.
            maniple::sleep(Duration::from_millis(100));
        });
        inner.resume(());
        canary.iter().all(|&byte| byte == 0xa5)
    });
    let waiting = waiting.unwrap();
    let mut depths = Vec::new();
    while !waiting.is_finished() {
        let seen = inspect::snapshot();
        let own = seen.coroutines().filter(|seen| seen.name() == Some(name));
        depths.extend(
            own.filter(|own| own.waits_for().is_some())
                .map(|own| own.depth()),
        );
        assert!(!inspect::dump().is_empty());
    }
    assert!(waiting.join().unwrap());
    assert!(depths.iter().all(|&depth| depth == 0), "{depths:?}");
    assert!(runtime.shutdown().is_clean());
}
