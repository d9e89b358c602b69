//! Stacks that other code suspends inside a scope: what would be put back elsewhere, or never, ends the process.

use std::{io::Read, thread};

use corosensei::{Coroutine, CoroutineResult, Yielder};
use maniple::{
    cancel::{CancelToken, shield},
    sync::{
        Barrier, Condvar, Mutex, Notify, Once, Semaphore, WaitGroup, broadcast, channel, oneshot,
        watch,
    },
    time::Elapsed,
};

use super::{LONG, SHORT, on, passes_as_child, plain_thread};

type Stray = Coroutine<(), (), ()>;

/// A stack that is suspended inside `scope` once it has been resumed.
fn inside(scope: fn(&mut dyn FnMut())) -> Stray {
    let mut stray = Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
        scope(&mut || yielder.suspend(()));
    });
    assert!(matches!(stray.resume(()), CoroutineResult::Yield(())));
    stray
}

const SCOPES: [fn(&mut dyn FnMut()); 4] = [
    |body| maniple::timeout(LONG, body).unwrap(),
    |body| shield(body),
    |body| CancelToken::new().run(body).unwrap(),
    |body| {
        let led: Result<(), ()> = maniple::group(|_| {
            body();
            Ok(())
        });
        led.unwrap();
    },
];

fn which() -> fn(&mut dyn FnMut()) {
    SCOPES[std::env::var("STRAY").unwrap().parse::<usize>().unwrap()]
}

/// Runs an ignored test once for each kind of scope, and holds that it aborts with the line.
fn aborts_in_each(test: &str, line: &str) {
    for scope in 0..SCOPES.len() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                test,
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("STRAY", scope.to_string())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{test} in {scope}\n{errors}");
        assert!(errors.contains(line), "{test} in {scope}\n{errors}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}

#[test]
fn a_scope_that_is_left_on_another_coroutine_ends_the_process() {
    aborts_in_each(
        "strays::left_on_another",
        "was left on another stack than it was entered on",
    );
}

#[test]
#[ignore = "aborts: a child of the test above"]
fn left_on_another() {
    on(1, || {
        let scope = which();
        let (give, take) = channel::bounded(1);
        let entering = maniple::spawn_local(move || {
            give.send(Moved(inside(scope))).unwrap();
            maniple::sleep(LONG);
        });
        let Moved(mut stray) = take.recv().unwrap();
        stray.resume(());
        drop(entering);
    });
}

/// Stays on its worker's thread.
struct Moved(Stray);
// SAFETY: the test has one worker.
unsafe impl Send for Moved {}

#[test]
fn scopes_that_are_left_out_of_order_end_the_process() {
    aborts_in_each("strays::left_out_of_order", "or out of order");
}

#[test]
#[ignore = "aborts: a child of the test above"]
fn left_out_of_order() {
    on(1, || {
        let mut stray = inside(which());
        which()(&mut || {
            stray.resume(());
        });
    });
}

#[test]
fn a_coroutine_that_ends_inside_a_scope_ends_the_process() {
    aborts_in_each(
        "strays::ended_inside",
        "ended while a stack that it had resumed was inside",
    );
}

#[test]
#[ignore = "aborts: a child of the test above"]
fn ended_inside() {
    on(1, || {
        let scope = which();
        let leaking = maniple::spawn(move || {
            let _leaked = std::mem::ManuallyDrop::new(inside(scope));
        });
        leaking.join().unwrap();
    });
}

#[test]
fn a_stack_may_be_suspended_inside_scopes_and_end_where_it_began() {
    on(1, || {
        for scope in SCOPES {
            let mut stray = inside(scope);
            maniple::yield_now();
            assert!(matches!(stray.resume(()), CoroutineResult::Return(())));
        }
        let cut = maniple::timeout(SHORT, || maniple::sleep(LONG));
        assert_eq!(cut, Err(Elapsed));
    });
}

#[test]
fn a_token_outlives_a_thread_that_left_a_stack_inside_its_run() {
    let token = CancelToken::new();
    let theirs = token.clone();
    let leaving = plain_thread(move || {
        let mut stray = Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
            theirs.run(|| yielder.suspend(())).unwrap();
        });
        stray.resume(());
        let _leaked = std::mem::ManuallyDrop::new(stray);
    });
    leaving.join().unwrap();
    token.cancel();
    assert!(token.is_cancelled());
}

type Named<T> = (&'static str, Box<dyn Fn() -> T>);

/// Every call of the table in the book's chapter on cancellation that unwinds.
fn unwinding_calls() -> Vec<Named<()>> {
    fn call(name: &'static str, f: impl Fn() + 'static) -> Named<()> {
        (name, Box::new(f))
    }
    vec![
        call("sleep", || maniple::sleep(LONG)),
        call("yield_now", || {
            loop {
                maniple::yield_now();
            }
        }),
        call("park", || {
            loop {
                maniple::park();
            }
        }),
        call("park_timeout", || {
            loop {
                maniple::task::park_timeout(LONG);
            }
        }),
        call("block_on", || maniple::block_on(std::future::pending())),
        call("Condvar", || {
            let (lock, condvar) = (Mutex::new(()), Condvar::new());
            let mut guard = lock.lock();
            loop {
                condvar.wait(&mut guard);
            }
        }),
        call("Notify", || Notify::new().notified()),
        call("Barrier", || _ = Barrier::new(2).wait()),
        call("WaitGroup", || {
            let group = WaitGroup::new();
            let _member = group.clone();
            group.wait();
        }),
        call("Once", || {
            let once = Once::new();
            once.wait();
        }),
        call("select!", || {
            let (_sender, receiver) = channel::bounded::<()>(0);
            maniple::select! { recv(receiver) -> _ => unreachable!() }
        }),
    ]
}

/// Every call of the table that returns an error: true if it did.
fn failing_calls() -> Vec<Named<bool>> {
    fn call(name: &'static str, f: impl Fn() -> bool + 'static) -> Named<bool> {
        (name, Box::new(f))
    }
    vec![
        call("sockets", || {
            let (mut stream, _peer) = maniple::net::UnixStream::pair().unwrap();
            stream.read(&mut [0]).is_err()
        }),
        call("process", || {
            let mut child = maniple::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap();
            let failed = child.wait().is_err();
            child.kill().unwrap();
            shield(|| child.wait()).unwrap();
            failed
        }),
        // On a plain thread the job is run there, to its end.
        call("offload", || {
            let job = || thread::park_timeout(LONG);
            maniple::current().is_none() || maniple::offload(job).is_err()
        }),
        call("channels", || {
            let (_sender, receiver) = channel::bounded::<()>(0);
            receiver.recv().is_err()
        }),
        call("oneshot", || {
            let (_sender, receiver) = oneshot::channel::<()>();
            receiver.recv().is_err()
        }),
        call("watch", || {
            let (_sender, mut receiver) = watch::channel(());
            receiver.changed().is_err()
        }),
        call("broadcast", || {
            let (_sender, mut receiver) = broadcast::channel::<()>(1, broadcast::Lag::DropOldest);
            receiver.recv().is_err()
        }),
        call("Semaphore", || Semaphore::new(0).acquire().is_err()),
        call("join", || {
            let sleeping = maniple::spawn(|| maniple::sleep(LONG));
            sleeping.join().is_err()
        }),
    ]
}

/// Holds the table against what happens: past a deadline, cancelled before, cancelled meanwhile.
fn holds_the_table() {
    for (name, call) in unwinding_calls() {
        assert_eq!(maniple::timeout(4 * SHORT, &call), Err(Elapsed), "{name}");
        let token = CancelToken::new();
        token.cancel();
        assert!(token.run(&call).is_err(), "{name}, cancelled before");
        let (token, meanwhile) = (CancelToken::new(), CancelToken::new());
        let theirs = (token.clone(), meanwhile.clone());
        let canceller = plain_thread(move || {
            theirs
                .0
                .run(|| maniple::timeout(4 * SHORT, maniple::park))
                .ok();
            theirs.1.cancel();
        });
        assert!(meanwhile.run(&call).is_err(), "{name}, cancelled meanwhile");
        canceller.join().unwrap();
    }
    for (name, call) in failing_calls() {
        assert_eq!(maniple::timeout(4 * SHORT, &call), Ok(true), "{name}");
        let token = CancelToken::new();
        token.cancel();
        assert_eq!(token.run(&call), Ok(true), "{name}, cancelled before");
    }
}

#[test]
fn on_a_plain_thread_waits_end_as_the_table_says() {
    passes_as_child("strays::on_a_plain_thread");
}

#[test]
#[ignore = "would hang: a child of the test above, which bounds it"]
fn on_a_plain_thread() {
    let guard = plain_thread(|| {
        thread::park_timeout(LONG);
        eprintln!("the table does not hold on a plain thread");
        std::process::abort();
    });
    holds_the_table();
    drop(guard);
}

#[test]
fn in_a_coroutine_waits_end_as_the_table_says() {
    on(2, || {
        maniple::spawn(holds_the_table).join().unwrap();
    });
}

#[test]
fn a_parked_thread_is_still_unparked_by_the_standard_library() {
    let main = thread::current();
    let unparking = plain_thread(move || main.unpark());
    assert_eq!(maniple::timeout(LONG, maniple::park), Ok(()));
    unparking.join().unwrap();
}
