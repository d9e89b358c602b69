//! Waiting for what is no descriptor: a time, a name, the end of a program or of a thread.

use std::{
    io,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use maniple::{cancel::CancelToken, spawn, sync::Barrier};

use crate::{WHILE, alone_with_children, on_one_worker, sleep};

#[test]
fn sleeps_of_std_are_at_the_same_time() {
    let (began, at_once) = (Instant::now(), Arc::new(AtOnce::default()));
    on_one_worker(|| {
        let sleepers: Vec<_> = (0..100)
            .map(|_| {
                let at_once = at_once.clone();
                spawn(move || at_once.during(|| sleep(2 * WHILE)))
            })
            .collect();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
    assert!(began.elapsed() >= 2 * WHILE);
    assert!(at_once.most() > 1, "one after the other");
}

/// How many are in the same call at a time.
#[derive(Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtOnce {
    fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.most
            .fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        let value = call();
        self.now.fetch_sub(1, SeqCst);
        value
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

#[test]
fn names_are_looked_up_by_others() {
    on_one_worker(|| {
        use std::net::ToSocketAddrs;
        let found: Vec<_> = ("localhost", 80).to_socket_addrs().unwrap().collect();
        assert!(
            found.iter().any(|address| address.ip().is_loopback()),
            "{found:?}"
        );
        assert!(("no-such-host.invalid", 80).to_socket_addrs().is_err());
        let token = CancelToken::new();
        token.cancel();
        let cut = token.run(|| ("localhost", 80).to_socket_addrs().map(drop));
        let error = cut.unwrap().unwrap_err();
        assert!(error.to_string().contains("anceled"), "{error:?}");
    });
}

#[test]
fn programs_and_threads_are_waited_for() {
    let _alone = alone_with_children();
    on_one_worker(|| {
        let at_once = [(); 3].map(|()| Arc::new(AtOnce::default()));
        let together = Arc::new(Barrier::new(8));
        let waits: Vec<_> = (0..8)
            .map(|_| {
                let ([output, child, thread], together) = (at_once.clone(), together.clone());
                spawn(move || {
                    let output = output.during(|| {
                        let mut shell = Command::new("sh");
                        shell.args(["-c", "sleep 0.3; echo done"]).output()
                    });
                    assert_eq!(output.unwrap().stdout, b"done\n");
                    together.wait();
                    let status = child.during(|| {
                        let mut sleeps = Command::new("sleep");
                        let mut child = sleeps.arg("0.1").stdin(Stdio::null()).spawn()?;
                        child.wait()
                    });
                    assert!(status.unwrap().success());
                    together.wait();
                    let seven = thread.during(|| {
                        let slow = std::thread::spawn(|| {
                            sleep(WHILE);
                            7
                        });
                        slow.join()
                    });
                    assert_eq!(seven.unwrap(), 7);
                })
            })
            .collect();
        for wait in waits {
            wait.join().unwrap();
        }
        for waited in at_once {
            assert!(waited.most() > 1, "one after the other");
        }
        // As make and others wait, who want to know what it took.
        let neighbour = spawn(|| maniple::sleep(WHILE / 2));
        #[allow(clippy::zombie_processes, reason = "the call below waits for it")]
        let child = Command::new("sleep").arg("0.1").spawn().unwrap();
        let (id, mut status) = (child.id() as i32, -1);
        // SAFETY: zero is nothing in each of its fields; room for the answers.
        let (found, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            let found = libc::wait4(id, &raw mut status, 0, &raw mut usage);
            (found, usage)
        };
        assert_eq!((found, status), (id, 0));
        assert!(usage.ru_maxrss > 0, "it took nothing");
        assert!(neighbour.is_finished());
        let status = || {
            let mut status = 0;
            // SAFETY: room for the status.
            let found = unsafe { libc::waitpid(-1, &raw mut status, 0) };
            (found, io::Error::last_os_error().raw_os_error())
        };
        assert_eq!(status(), (-1, Some(libc::ECHILD)));
    });
}
