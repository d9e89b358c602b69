//! The look inside: coroutines are found where they wait, with the functions that they wait in.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use maniple::{
    Runtime, inspect,
    net::TcpListener,
    runtime::{NoOverflow, StackGuard},
    sync::{Mutex, channel},
    task::Builder,
};

use crate::{LONG, on, plain_thread};

/// Looks until `found` has; what waits elsewhere needs a moment to get there.
fn look_until<T>(mut found: impl FnMut(&inspect::Snapshot) -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = found(&inspect::snapshot()) {
            return found;
        }
        assert!(begun.elapsed() < LONG, "{}", inspect::dump());
        maniple::yield_now();
    }
}

fn coroutine(name: &str) -> impl Fn(&inspect::Snapshot) -> Option<inspect::Coroutine> {
    let is_it = move |coroutine: &&inspect::Coroutine| coroutine.name() == Some(name);
    move |seen| {
        let found = seen.coroutines().find(is_it)?;
        found.waits_for().is_some().then(|| found.clone())
    }
}

#[inline(never)]
fn waits_in_here(receiver: &channel::Receiver<()>) {
    let _ = receiver.recv();
    std::hint::black_box(());
}

#[test]
fn each_kind_of_wait_is_named_with_what_is_waited_for() {
    on(2, || {
        let spawn = |name: &'static str, body: Box<dyn FnOnce() + Send>| {
            Builder::new().name(name).spawn(body).unwrap()
        };
        let (sender, receiver) = channel::bounded::<()>(1);
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = mutex.clone();
        let handles = [
            spawn(
                "seen-recv",
                Box::new(move || assert!(receiver.recv().is_err())),
            ),
            spawn("seen-lock", Box::new(move || drop(theirs.lock()))),
            spawn("seen-sleep", Box::new(|| maniple::sleep(LONG))),
            spawn("seen-park", Box::new(maniple::park)),
            spawn("seen-accept", Box::new(move || drop(listener.accept()))),
        ];
        for (name, wanted) in [
            ("seen-recv", "channel receive"),
            ("seen-lock", "lock"),
            ("seen-sleep", "sleep"),
            ("seen-park", "park"),
            ("seen-accept", "readable"),
        ] {
            let found = look_until(coroutine(name));
            let reason = found.waits_for().unwrap();
            assert!(reason.contains(wanted), "{name}: {reason}");
            assert!(found.spawned_at().file().ends_with("inspecting.rs"));
            assert!(found.depth() > 0 && found.stack().len() >= found.depth());
            assert!(found.touched().is_some_and(|bytes| bytes >= 4096));
        }
        drop((guard, sender));
        handles.iter().for_each(|handle| handle.cancel());
    });
}

#[test]
fn a_dump_shows_where_each_coroutine_waits_and_disturbs_none() {
    on(1, || {
        let (sender, receiver) = channel::bounded(1);
        let waiting = Builder::new()
            .name("seen-in-dump")
            .spawn(move || waits_in_here(&receiver))
            .unwrap();
        look_until(coroutine("seen-in-dump"));
        let report = inspect::dump();
        let own = report
            .split("\n\n")
            .find(|part| part.contains("\"seen-in-dump\""));
        let own = own.unwrap_or_else(|| panic!("{report}"));
        assert!(own.contains("waits_in_here"), "{own}");
        assert!(own.contains("channel receive"), "{own}");
        assert!(
            !own.contains("corosensei") && !own.contains("catch_unwind"),
            "{own}"
        );
        sender.send(()).unwrap();
        waiting.join().unwrap();
    });
}

fn stacks_of(runtime: &str) -> inspect::Stacks {
    let mut all = inspect::stacks().into_iter();
    all.find(|stacks| stacks.runtime() == runtime).unwrap()
}

#[test]
fn each_choice_of_guards_is_told_and_runs() {
    use inspect::GuardKind;
    let builder = |name| Runtime::builder().workers(1).thread_name(name);
    // SAFETY: nothing here comes near the end of its stack.
    let promise = unsafe { NoOverflow::promised() };
    let unguarded = builder("seen-bare").without_stack_guards(promise);
    let pages = builder("seen-pages").stack_guard(StackGuard::Mprotect);
    for (name, builder, kind) in [
        ("seen-bare", unguarded, GuardKind::None),
        ("seen-pages", pages, GuardKind::Mprotect),
    ] {
        let runtime = builder.build().unwrap();
        assert_eq!(runtime.run(|| maniple::spawn(|| 42).join().unwrap()), 42);
        assert_eq!(stacks_of(name).guard(), kind);
    }
    let marks = builder("seen-marks").stack_guard(StackGuard::Madvise);
    match marks.build() {
        Ok(_running) => {
            assert_eq!(stacks_of("seen-marks").guard(), GuardKind::Madvise);
            let best = builder("seen-best").build().unwrap();
            assert_eq!(stacks_of("seen-best").guard(), GuardKind::Madvise);
            drop(best);
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}"),
    }
}

#[test]
fn stacks_are_counted_while_coroutines_live_and_after() {
    let runtime = Runtime::builder()
        .workers(1)
        .thread_name("seen-stacks")
        .stack_size(64 << 10)
        .build()
        .unwrap();
    runtime.run(|| {
        let (sender, receiver) = channel::bounded::<()>(1);
        let wait = |_| {
            let receiver = receiver.clone();
            maniple::spawn(move || receiver.recv().is_err())
        };
        let waiting: Vec<_> = (0..1000).map(wait).collect();
        maniple::yield_now();
        while stacks_of("seen-stacks").live() <= 1000 {
            maniple::yield_now();
        }
        let during = stacks_of("seen-stacks");
        assert_eq!((during.warm(), during.cold()), (0, 0));
        assert_eq!(during.default_size(), 64 << 10);
        assert!(during.mapped_bytes() >= 1001 * during.default_size());
        assert!(during.regions() > 1, "{during:?}");
        drop(sender);
        assert!(waiting.into_iter().all(|handle| handle.join().unwrap()));
        let after = stacks_of("seen-stacks");
        assert!(after.live() <= 65 && after.warm() >= 900, "{after:?}");
        assert!(after.high_water() > 1000, "{after:?}");
        assert_eq!(after.mapped_bytes(), during.mapped_bytes());
    });
}

#[test]
fn a_child_names_its_leader() {
    on(2, || {
        let leader = maniple::current().unwrap().id();
        maniple::group(|g| {
            let child = g.spawn_named("seen-child", maniple::park);
            let seen = look_until(coroutine("seen-child"));
            assert_eq!(seen.leader(), Some(leader));
            child.cancel();
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}

#[test]
fn a_worker_that_is_held_is_busy_and_the_others_answer() {
    let builder = maniple::Runtime::builder().workers(2);
    let runtime = builder.thread_name("seen-held").build().unwrap();
    let free = Arc::new(AtomicBool::new(false));
    let theirs = free.clone();
    let holder = runtime.spawn(move || {
        while !theirs.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    look_until(|seen| {
        let workers = seen.workers().iter();
        let ours = workers.filter(|worker| worker.name().starts_with("seen-held"));
        let busy: Vec<_> = ours.map(inspect::Worker::is_busy).collect();
        (busy == [true, false] || busy == [false, true]).then_some(())
    });
    free.store(true, Ordering::Release);
    holder.join().unwrap();
}

#[inline(never)]
fn holds_in_here(lock: &std::sync::Mutex<()>) {
    drop(lock.lock());
    std::hint::black_box(());
}

#[test]
fn a_dump_names_who_holds_a_worker_and_lists_who_else_is_there() {
    let builder = maniple::Runtime::builder().workers(1);
    let runtime = builder.thread_name("seen-stuck").build().unwrap();
    let lock = Arc::new(std::sync::Mutex::new(()));
    let (theirs, held) = (lock.clone(), lock.lock().unwrap());
    let parked = Builder::new().name("seen-beside");
    let parked = runtime.spawn_with(parked, maniple::park).unwrap();
    look_until(coroutine("seen-beside"));
    let holder = Builder::new().name("seen-holding");
    let holder = runtime
        .spawn_with(holder, move || holds_in_here(&theirs))
        .unwrap();
    look_until(|seen| {
        let mut workers = seen.workers().iter();
        let held = workers.find(|worker| worker.name() == "seen-stuck-0")?;
        let holder = held.holder()?;
        assert!(held.is_busy() && holder.is_running());
        assert_eq!(holder.name(), Some("seen-holding"));
        let [other] = held.coroutines() else {
            panic!("{held:?}");
        };
        assert_eq!(other.name(), Some("seen-beside"));
        assert_eq!(other.waits_for().as_deref(), Some("park"));
        assert!(other.depth() > 0);
        Some(())
    });
    let report = inspect::dump();
    drop(held);
    holder.join().unwrap();
    parked.cancel();
    let _ = parked.join();
    let (_, of_it) = report.split_once("worker seen-stuck-0: busy").unwrap();
    let (holds, waits) = of_it.split_once("\"seen-beside\"").unwrap();
    assert!(holds.contains("\"seen-holding\", runs"), "{report}");
    assert!(holds.contains("holds_in_here"), "{report}");
    assert!(waits.contains("waits for park"), "{report}");
}

#[test]
fn a_shutdown_can_be_looked_at_while_somebody_does_not_end() {
    struct Tell(std::sync::mpsc::Sender<()>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let builder = maniple::Runtime::builder().workers(1);
    let runtime = builder.shutdown_grace(LONG).build().unwrap();
    let (sender, receiver) = channel::bounded::<()>(1);
    let lasting = Builder::new().name("seen-lasting");
    let _lasting = runtime.spawn_with(lasting, move || {
        let _ = maniple::cancel::shield(|| receiver.recv());
    });
    look_until(coroutine("seen-lasting"));
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Tell(tell);
    let cut = Builder::new().name("seen-cut");
    let _cut = runtime.spawn_with(cut, move || {
        let _tell = tell;
        maniple::park();
    });
    look_until(coroutine("seen-cut"));
    let ending = plain_thread(move || runtime.shutdown());
    told.recv().unwrap();
    let seen = inspect::snapshot();
    drop(sender);
    assert!(coroutine("seen-lasting")(&seen).is_some(), "{seen:?}");
    assert!(ending.join().unwrap().is_clean());
}

#[test]
fn turns_are_counted_while_tracked() {
    inspect::track(true);
    on(1, || {
        let yielder = Builder::new().name("seen-turns").spawn(|| {
            (0..10).for_each(|_| maniple::yield_now());
            maniple::park();
        });
        let seen = look_until(coroutine("seen-turns"));
        assert!(seen.turns().is_some_and(|turns| turns >= 11), "{seen:?}");
        assert!(seen.run_time().is_some() && seen.since().is_some());
        yielder.unwrap().cancel();
    });
}

#[test]
fn a_plain_thread_may_look() {
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    let parked = runtime.spawn(maniple::park);
    let id = parked.id();
    look_until(|seen| seen.coroutines().any(|seen| seen.id() == id).then_some(()));
    parked.cancel();
    let _ = parked.join();
}

#[test]
fn a_stack_without_room_for_the_walk_is_left_alone() {
    on(1, || {
        let deep = Builder::new()
            .name("seen-deep")
            .stack_size(16 * 1024)
            .spawn(|| {
                let mut taken = [0_u8; 5 * 1024];
                std::hint::black_box(&mut taken);
                maniple::park();
                std::hint::black_box(&mut taken);
            });
        look_until(coroutine("seen-deep"));
        let report = inspect::dump();
        let own = report
            .split("\n\n")
            .find(|part| part.contains("\"seen-deep\""));
        assert!(
            own.is_some_and(|own| own.contains("too little stack")),
            "{report}"
        );
        deep.unwrap().cancel();
    });
}

#[test]
#[ignore = "is sent a signal: a child of the test below"]
fn quit_child() {
    inspect::dump_on_sigquit().unwrap();
    inspect::dump_on_sigquit().unwrap();
    on(1, || {
        let parked = Builder::new()
            .name("seen-quit")
            .spawn(maniple::park)
            .unwrap();
        look_until(coroutine("seen-quit"));
        println!("\nready");
        parked.join()
    })
    .unwrap();
}

#[test]
fn a_quit_signal_dumps_and_the_process_lives_on() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "inspecting::quit_child",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "ready"));
    let mut dumped = BufReader::new(child.stderr.take().unwrap()).lines();
    for _ in 0..2 {
        kill_process(Pid::from_child(&child), Signal::QUIT).unwrap();
        assert!(dumped.any(|line| line.unwrap().contains("seen-quit")));
    }
    assert!(child.try_wait().unwrap().is_none(), "it lives");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_dump_ends_with_what_others_have_to_tell() {
    inspect::add_section("first of others", || "one line\nand another".to_owned());
    inspect::add_section("first of others", || "never asked".to_owned());
    inspect::add_section("silent", String::new);
    inspect::add_section("broken", || panic!("as it may be"));
    inspect::add_section("last of others", || {
        // The first to be asked may have others be asked, too.
        inspect::add_section("late", || "here".to_owned());
        "the end\n\n".to_owned()
    });
    let told = "\nfirst of others\none line\nand another\n\nlast of others\nthe end\n";
    for dump in [inspect::dump(), maniple::run(inspect::dump)] {
        assert!(dump.contains(told), "{dump}");
        assert!(
            !dump.contains("never asked") && !dump.contains("\nsilent\n"),
            "{dump}"
        );
        assert!(!dump.contains("\nbroken\n"), "{dump}");
    }
    assert!(inspect::dump().contains("\nlate\nhere\n"));
}
