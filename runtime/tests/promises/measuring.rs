//! How deep stacks are used, measured: what is known to have been used is what is reported.

use std::{
    hint::black_box,
    mem::MaybeUninit,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use maniple::{
    Runtime,
    inspect::{self, DepthsOf, MeasureDepths, measure_depths},
    sync::channel,
    task::Builder,
};

use crate::LONG;

/// What is measured is measured for the whole process: by one test at a time.
struct Measuring(#[allow(dead_code)] MutexGuard<'static, ()>);

fn measuring(how: MeasureDepths) -> Measuring {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    measure_depths(how);
    Measuring(one)
}

impl Drop for Measuring {
    fn drop(&mut self) {
        measure_depths(MeasureDepths::Off);
    }
}

fn runtime(workers: usize, paint: bool) -> Runtime {
    let builder = Runtime::builder().workers(workers).paint_stacks(paint);
    builder.build().unwrap()
}

fn of(name: &str) -> Vec<DepthsOf> {
    let all = inspect::depths().into_iter();
    all.filter(|of| of.name() == Some(name)).collect()
}

fn the(name: &str) -> DepthsOf {
    let found = of(name);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

const KIB: usize = 1024;

/// The page at the base of a stack is in use anyway, and a frame adds to what it is asked for.
const PAGE: usize = 4 * KIB;

/// Uses so many KiB of stack, 1 KiB at a time and not much more; returns the address of the deepest.
#[inline(never)]
fn descend(kib: usize) -> usize {
    let mut taken = [0_u8; KIB];
    black_box(&mut taken);
    let own = taken.as_ptr().addr();
    let deepest = if kib > 1 { descend(kib - 1) } else { own };
    black_box(&mut taken);
    deepest
}

/// Runs `body` on a coroutine of that name, which gives how far below its base it came by its own account.
fn depth_of(runtime: &Runtime, name: &'static str, body: fn() -> usize) -> usize {
    runtime.run(move || {
        let measured = Builder::new().name(name).spawn(move || {
            let id = maniple::inspect::snapshot();
            let own = id.coroutines().find(|seen| seen.name() == Some(name));
            own.unwrap().stack().end - body()
        });
        measured.unwrap().join().unwrap()
    })
}

#[test]
fn the_deepest_page_is_that_of_the_deepest_frame() {
    let _measuring = measuring(MeasureDepths::OnFreshStacks);
    let runtime = runtime(1, false);
    let expected = depth_of(&runtime, "gauged-pages", || descend(100));
    let seen = the("gauged-pages");
    assert_eq!((seen.ended(), seen.unknown()), (1, 0));
    let pages = seen.resident().max().unwrap();
    assert_eq!(pages % PAGE, 0);
    assert!(expected >= 100 * KIB, "{expected}");
    assert!(
        (expected..expected + 2 * PAGE).contains(&pages),
        "{expected} {seen}"
    );
    assert!(seen.suspended().max().unwrap() < pages);
    assert_eq!(seen.painted().count(), 0);
    assert!(seen.spawned_at().unwrap().file().ends_with("measuring.rs"));
}

#[test]
fn paint_tells_the_deepest_byte() {
    let _measuring = measuring(MeasureDepths::On);
    let runtime = runtime(1, true);
    let expected = depth_of(&runtime, "gauged-paint", || descend(30));
    let seen = the("gauged-paint");
    assert_eq!((seen.painted().count(), seen.beyond_paint()), (1, 0));
    let written = seen.painted().max().unwrap();
    // Below the array there is what `black_box` and its callers push; a sanitizer pads frames.
    let below = if cfg!(feature = "sanitizer") {
        PAGE
    } else {
        512
    };
    assert!(
        (expected..expected + below).contains(&written),
        "{expected} {seen}"
    );
    assert_eq!(seen.resident().max(), Some(written.next_multiple_of(PAGE)));
    assert_eq!(seen.deepest(), written);
}

#[test]
fn below_the_paint_the_pages_tell() {
    let _measuring = measuring(MeasureDepths::OnFreshStacks);
    let runtime = runtime(1, true);
    let expected = depth_of(&runtime, "gauged-beyond", || descend(100));
    let seen = the("gauged-beyond");
    assert_eq!((seen.painted().count(), seen.beyond_paint()), (1, 1));
    for deepest in [seen.deepest(), seen.resident().max().unwrap()] {
        assert!(
            (expected..expected + 2 * PAGE).contains(&deepest),
            "{expected} {seen}"
        );
    }
}

/// Reserves a frame and writes nothing there.
#[inline(never)]
fn reserve<const BYTES: usize>() {
    let room = [MaybeUninit::<u8>::uninit(); BYTES];
    black_box(&room);
}

/// Whether so many bytes that are reserved count with all their pages but the last, and with little more.
fn counts_in_full(seen: &DepthsOf, bytes: usize) {
    let deepest = seen.painted().max().unwrap();
    let paddings = 3 * PAGE;
    assert!(
        (bytes - PAGE..bytes + paddings).contains(&deepest),
        "{bytes}: {seen}"
    );
    assert_eq!(seen.resident().max(), Some(deepest.next_multiple_of(PAGE)));
    assert_eq!(seen.beyond_paint(), u64::from(bytes > 64 * KIB), "{seen}");
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "frames are laid out otherwise there")]
fn frames_that_are_reserved_and_not_written_count_on_any_stack() {
    for how in [MeasureDepths::On, MeasureDepths::OnFreshStacks] {
        let _measuring = measuring(how);
        let runtime = runtime(1, true);
        runtime.run(|| {
            let run = |name: &'static str, body: fn()| {
                let builder = Builder::new().name(name).stack_size(4 << 20);
                builder.spawn(body).unwrap().join().unwrap();
            };
            // The others have the same stack after it.
            run("gauged-before", || {
                black_box(descend(2 * KIB));
            });
            run("gauged-ten", reserve::<10_000>);
            run("gauged-hundred", reserve::<100_000>);
            run("gauged-million", reserve::<1_000_000>);
            run("gauged-after", reserve::<10_001>);
        });
        for (name, bytes) in [
            ("gauged-before", 2 << 20),
            ("gauged-ten", 10_000),
            ("gauged-hundred", 100_000),
            ("gauged-million", 1_000_000),
            ("gauged-after", 10_001),
        ] {
            if name == "gauged-before" {
                assert!(the(name).deepest() >= bytes, "{}", the(name));
            } else {
                counts_in_full(&the(name), bytes);
            }
        }
        assert!(the("gauged-hundred").deepest() >= 100_000);
    }
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "frames are laid out otherwise there")]
fn below_the_paint_each_label_has_its_own_depth() {
    let _measuring = measuring(MeasureDepths::On);
    runtime(1, true).run(|| {
        let builder = Builder::new().name("gauged-turns").stack_size(4 << 20);
        let turns = builder.spawn(|| {
            let deep: [(&str, fn()); 3] = [
                ("first", reserve::<1_000_000>),
                ("second", reserve::<100_000>),
                ("third", reserve::<10_000>),
            ];
            for (label, body) in deep {
                inspect::depth_label(label);
                body();
                maniple::yield_now();
            }
        });
        turns.unwrap().join().unwrap();
    });
    for of in of("gauged-turns") {
        let (bytes, beyond) = match of.label() {
            Some("first") => (1_000_000, 1),
            Some("second") => (100_000, 1),
            _ => (10_000, 0),
        };
        let deepest = of.painted().max().unwrap();
        assert!((bytes - PAGE..bytes + 3 * PAGE).contains(&deepest), "{of}");
        assert_eq!(of.beyond_paint(), beyond, "{of}");
    }
}

#[test]
fn a_stack_as_small_as_can_be_is_painted_down_to_its_guard() {
    let _measuring = measuring(MeasureDepths::On);
    let runtime = runtime(1, true);
    runtime.run(|| {
        let small = Builder::new().name("gauged-small").stack_size(16 * KIB);
        small.spawn(|| descend(4)).unwrap().join().unwrap();
    });
    let seen = the("gauged-small");
    let written = seen.painted().max().unwrap();
    assert!((4 * KIB..12 * KIB).contains(&written), "{seen}");
}

#[test]
fn of_a_stack_that_was_used_deeper_before_nothing_is_claimed() {
    let _measuring = measuring(MeasureDepths::On);
    let runtime = runtime(1, false);
    runtime.run(|| {
        for (name, kib) in [("gauged-first", 60), ("gauged-second", 8)] {
            let next = Builder::new().name(name).spawn(move || descend(kib));
            next.unwrap().join().unwrap();
        }
    });
    let first = the("gauged-first");
    assert!(first.resident().max().unwrap() >= 60 * KIB, "{first}");
    let second = the("gauged-second");
    assert_eq!((second.ended(), second.unknown()), (1, 1), "{second}");
    assert_eq!(second.resident().max(), None);
}

#[test]
fn what_was_trimmed_away_meanwhile_counts() {
    let _measuring = measuring(MeasureDepths::OnFreshStacks);
    let builder = Runtime::builder().workers(1);
    let trims = builder.idle_trim(Some(Duration::from_millis(1)));
    trims.build().unwrap().run(|| {
        let waits = Builder::new().name("gauged-trimmed").spawn(|| {
            descend(60);
            maniple::park();
        });
        let waits = waits.unwrap();
        let begun = std::time::Instant::now();
        let touched = || {
            let seen = inspect::snapshot();
            let mut all = seen.coroutines();
            let found = all.find(|seen| seen.name() == Some("gauged-trimmed"));
            found.and_then(|seen| seen.touched()).unwrap_or(usize::MAX)
        };
        while touched() > 20 * KIB {
            assert!(begun.elapsed() < LONG, "{}", inspect::dump());
            maniple::sleep(Duration::from_millis(1));
        }
        waits.cancel();
        let _ = waits.join();
    });
    let seen = the("gauged-trimmed");
    assert!(seen.resident().max().unwrap() >= 60 * KIB, "{seen}");
}

#[test]
fn nothing_is_collected_while_it_is_off() {
    let measuring = measuring(MeasureDepths::On);
    measure_depths(MeasureDepths::Off);
    let runtime = runtime(2, true);
    runtime.run(|| {
        let unseen = Builder::new().name("gauged-never").spawn(|| {
            inspect::depth_label("gauged-label");
            maniple::yield_now();
        });
        unseen.unwrap().join().unwrap();
    });
    assert!(of("gauged-never").is_empty());
    drop(measuring);
}

#[test]
fn to_begin_anew_is_to_forget() {
    let _measuring = measuring(MeasureDepths::On);
    let runtime = runtime(1, true);
    runtime.run(|| {
        let (go, told) = channel::bounded::<()>(1);
        let body = move || {
            let _ = told.recv();
            descend(20)
        };
        let early = Builder::new().name("gauged-early").spawn(body).unwrap();
        maniple::yield_now();
        measure_depths(MeasureDepths::On);
        go.send(()).unwrap();
        early.join().unwrap();
    });
    let seen = the("gauged-early");
    let counts = [seen.suspended(), seen.resident(), seen.painted()];
    assert_eq!(counts.map(inspect::Distribution::count), [0; 3], "{seen}");
    assert_eq!((seen.ended(), seen.unknown()), (1, 0));
}

#[test]
fn each_place_and_each_label_is_counted_on_its_own() {
    let _measuring = measuring(MeasureDepths::On);
    let runtime = runtime(1, true);
    runtime.run(|| {
        let labelled = Builder::new().name("gauged-labels-7").spawn(|| {
            for (label, kib) in [("flat", 2), ("deep", 40), ("flat", 3)] {
                inspect::depth_label(label);
                descend(kib);
                maniple::yield_now();
            }
        });
        let other = Builder::new().name("gauged-labels-8").spawn(|| ());
        labelled.unwrap().join().unwrap();
        other.unwrap().join().unwrap();
    });
    let found = of("gauged-labels");
    assert_eq!(found.len(), 3, "two labels of one place, and another place");
    let labelled = |label| {
        let mut all = found.iter();
        all.find(|of| of.label() == label).unwrap()
    };
    let (flat, deep, none) = (
        labelled(Some("flat")),
        labelled(Some("deep")),
        labelled(None),
    );
    assert_eq!((flat.suspended().count(), flat.painted().count()), (2, 2));
    assert_eq!((deep.suspended().count(), deep.painted().count()), (1, 1));
    assert_eq!((flat.ended(), deep.ended(), none.ended()), (1, 0, 1));
    assert!(flat.painted().max().unwrap() < 20 * KIB, "{flat}");
    assert!(deep.painted().max().unwrap() > 40 * KIB, "{deep}");
    assert_eq!(flat.spawned_at(), deep.spawned_at());
    assert_ne!(flat.spawned_at(), none.spawned_at());
}

#[test]
fn workers_count_together() {
    const EACH: u64 = 200;
    let _measuring = measuring(MeasureDepths::On);
    let runtime = runtime(2, true);
    runtime.run(|| {
        maniple::group(|g| {
            for index in 0..EACH {
                g.spawn_named(format!("gauged-both-{index}"), move || {
                    (0..3).for_each(|_| maniple::yield_now());
                    descend(4 + index as usize % 8);
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    });
    let seen = the("gauged-both");
    assert_eq!(seen.ended(), EACH);
    assert_eq!(seen.suspended().count(), 3 * EACH);
    assert_eq!(seen.painted().count(), EACH);
    let (least, most) = (seen.painted().quantile(0.0), seen.painted().max());
    assert!(least.unwrap() < most.unwrap(), "{seen}");
    assert!(most.unwrap() >= 11 * KIB, "{seen}");
}
