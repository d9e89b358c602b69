//! Child processes and signals: waited for by coroutines while their worker goes on.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::process::ExitStatusExt,
    time::Instant,
};

use maniple::{
    JoinError,
    cancel::{CancelToken, is_cancelled_error},
    group, offload,
    process::{Child, Command, StatusLost, Stdio},
    signal::{
        SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signal,
        shutdown_signals, signals,
    },
    spawn, timeout, yield_now,
};

use super::{LONG, SHORT, no_world, on, passes_as_child};

fn endless() -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").kill_on_drop(true).spawn().unwrap()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether the process still stands in the system's table, be it as a zombie.
fn exists(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/{id}")).exists()
}

#[test]
fn output_and_status_work_from_coroutines_and_plain_threads() {
    let every = || {
        let output = shell("echo out; echo err >&2; exit 3").output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            (&*output.stdout, &*output.stderr),
            (&b"out\n"[..], &b"err\n"[..])
        );
        let mut exit = shell("test -z \"$HOME\" && exit $CODE");
        let exit = exit
            .env_clear()
            .env("CODE", "4")
            .env("PATH", "/usr/bin:/bin");
        assert_eq!(exit.status().unwrap().code(), Some(4));
        let missing = Command::new("/no/such/program").status().unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    };
    on(1, every);
    every();
}

#[test]
fn both_outputs_are_read_at_once_however_much_comes() {
    on(1, || {
        let many = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero";
        let output = shell(many).output().unwrap();
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (300_000, 300_000)
        );
    });
}

#[test]
fn a_worker_runs_others_while_processes_talk_and_end() {
    on(1, || {
        let mut cat = Command::new("cat");
        let mut cat = cat
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let reading = spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let waiting = spawn(move || cat.wait());
        yield_now();
        assert!(!reading.is_finished() && !waiting.is_finished());
        stdin.write_all(b"through").unwrap();
        drop(stdin);
        assert_eq!(reading.join().unwrap().unwrap(), "through");
        assert!(waiting.join().unwrap().unwrap().success());
    });
}

#[test]
fn waiting_closes_the_childs_input_and_may_be_repeated() {
    on(1, || {
        let mut cat = Command::new("cat");
        let mut cat = cat
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let status = cat.wait().unwrap();
        assert!(status.success());
        assert_eq!(cat.wait().unwrap(), status);
        assert_eq!(cat.try_wait().unwrap(), Some(status));
        cat.kill().unwrap();
    });
}

#[test]
fn a_wait_is_cut_by_a_deadline_and_the_process_goes_on_until_killed() {
    let every = || {
        let mut child = endless();
        let begun = Instant::now();
        let late = timeout(SHORT, || child.wait()).unwrap().unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= SHORT);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
    };
    on(1, every);
    every();
}

#[test]
fn a_dropped_child_is_killed_and_gone_if_so_wished_and_left_alone_if_not() {
    on(1, || {
        let child = endless();
        let id = child.id();
        assert!(exists(id));
        drop(child);
        assert!(!exists(id));

        let token = CancelToken::new();
        let mut id = 0;
        let cut = token.run(|| {
            let child = endless();
            id = child.id();
            token.cancel();
            maniple::sleep(LONG);
        });
        assert!(cut.is_err() && !exists(id));

        let mut left = Command::new("cat");
        let mut left = left
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, mut stdout) = (left.stdin.take(), left.stdout.take().unwrap());
        drop(left);
        stdin.unwrap().write_all(b"alive").unwrap();
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        assert_eq!(text, "alive");
    });
}

#[test]
fn cutting_output_or_status_at_any_moment_leaves_no_process() {
    on(2, || {
        for yields in 0..12 {
            let token = CancelToken::new();
            // The process alone holds the other end.
            let (mut alive, writer) = std::io::pipe().unwrap();
            let outcome: Result<_, JoinError> = group(|g| {
                let calling = g.spawn(|| {
                    let mut sleep = shell("echo $$; exec sleep 600");
                    sleep.stdout(Stdio::piped()).stderr(writer);
                    token.run(|| match yields % 2 {
                        0 => sleep.output().map(drop),
                        _ => sleep.status().map(drop),
                    })
                });
                g.spawn(|| {
                    (0..yields * yields).for_each(|_| yield_now());
                    token.cancel();
                });
                calling.join()
            });
            // What is returned is returned only once the process is gone.
            match outcome.unwrap() {
                Ok(result) => assert!(is_cancelled_error(&result.unwrap_err())),
                Err(cancelled) => panic!("the calls return errors: {cancelled}"),
            }
            let ended = offload(move || alive.read(&mut [0])).unwrap();
            assert_eq!(ended.unwrap(), 0);
        }
    });
}

#[test]
#[ignore = "ignores SIGCHLD for the whole process: a child of the test below"]
fn ignoring_child() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let every = || {
        let mut told = 0;
        for round in 0..40 {
            let script = match round % 2 {
                0 => "echo out; echo err >&2; exit 3",
                _ => "echo out; echo err >&2; kill -9 $$",
            };
            match shell(script).output() {
                Ok(output) => {
                    assert_eq!(output.status.code(), [Some(3), None][round % 2]);
                    assert_eq!(output.status.signal(), [None, Some(9)][round % 2]);
                    assert_eq!(
                        (&*output.stdout, &*output.stderr),
                        (&b"out\n"[..], &b"err\n"[..])
                    );
                    told += 1;
                }
                Err(error) => {
                    let lost = error
                        .get_ref()
                        .unwrap()
                        .downcast_ref::<StatusLost>()
                        .unwrap();
                    assert_eq!(
                        (&*lost.stdout, &*lost.stderr),
                        (&b"out\n"[..], &b"err\n"[..])
                    );
                }
            }
        }
        // A handle is told again and again, and what has gone is not killed.
        let mut child = shell("exit 7").spawn().unwrap();
        let first = child.wait().map(|status| status.code()).ok();
        assert_eq!(child.wait().map(|status| status.code()).ok(), first);
        child.kill().unwrap();
        drop(endless());
        told
    };
    let told = on(1, every) + every();
    // The kernel, as the system's headers number its versions.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = kernel
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 15) {
        assert!(told > 0, "Linux {version:?} tells");
    }
}

#[test]
fn where_sigchld_is_ignored_output_and_status_are_told_all_the_same() {
    passes_as_child("processes::ignoring_child");
}

#[test]
fn a_child_that_was_left_alone_is_no_zombie_for_long() {
    on(1, || {
        let ids: Vec<_> = (0..10)
            .map(|_| {
                let child = shell("exit 0").spawn().unwrap();
                child.id()
            })
            .collect();
        let begun = Instant::now();
        while ids.iter().any(|id| exists(*id)) {
            assert!(begun.elapsed() < LONG, "they stay");
            // What anybody starts takes away those that have ended.
            shell("exit 0").status().unwrap();
        }
    });
}

// Signals are the whole process's, and tests run side by side: each test has signals of its own.

fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.as_raw()).unwrap();
}

#[test]
fn every_receiver_gets_a_signal_once_however_often_it_came() {
    on(2, || {
        let receivers = [(); 3].map(|()| signals(&[SIGUSR1, SIGUSR2]).unwrap());
        (0..5).for_each(|_| raise(SIGUSR2));
        raise(SIGUSR1);
        for receiver in &receivers {
            assert_eq!(receiver.recv().unwrap(), SIGUSR1);
            assert_eq!(receiver.recv().unwrap(), SIGUSR2);
            assert_eq!(receiver.try_recv(), None);
            let late = receiver.recv_timeout(SHORT).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
        }
        raise(SIGUSR1);
        assert_eq!(receivers[2].iter().next(), Some(SIGUSR1));
    });
}

#[test]
fn a_waiting_coroutine_or_plain_thread_is_woken() {
    let received = signals(&[SIGHUP]).unwrap();
    no_world();
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| received.recv().unwrap());
        on(1, || {
            let own = signals(&[SIGHUP]).unwrap();
            let waiting = spawn(move || own.recv().unwrap());
            yield_now();
            raise(SIGHUP);
            assert_eq!(waiting.join().unwrap(), SIGHUP);
        });
        assert_eq!(thread.join().unwrap(), SIGHUP);
    });
}

#[test]
fn those_who_share_a_receiver_share_its_signals() {
    for workers in [1, 2] {
        on(workers, || {
            let received = signals(&[SIGQUIT, SIGWINCH]).unwrap();
            let both: Result<_, JoinError> = group(|g| {
                let two = [(); 2].map(|()| g.spawn(|| received.recv().unwrap()));
                yield_now();
                raise(SIGQUIT);
                raise(SIGWINCH);
                let [one, other] = two.map(|one| one.join());
                Ok([one?, other?])
            });
            let mut both = both.unwrap();
            both.sort();
            assert_eq!(both, [SIGQUIT, SIGWINCH]);
        });
    }
}

#[test]
fn cutting_a_receiver_at_any_moment_loses_no_signal() {
    on(2, || {
        let received = signals(&[SIGALRM]).unwrap();
        for yields in 0..60 {
            let token = CancelToken::new();
            let outcome: Result<_, JoinError> = group(|g| {
                let waiting = g.spawn(|| token.run(|| received.recv()));
                g.spawn(|| {
                    (0..yields % 8).for_each(|_| yield_now());
                    token.cancel();
                });
                g.spawn(|| {
                    (0..yields / 8).for_each(|_| yield_now());
                    raise(SIGALRM);
                });
                waiting.join()
            });
            match outcome.unwrap().unwrap() {
                Ok(signal) => assert_eq!((signal, received.try_recv()), (SIGALRM, None)),
                Err(error) => {
                    assert!(is_cancelled_error(&error));
                    assert_eq!(received.recv().unwrap(), SIGALRM);
                }
            }
        }
    });
}

#[test]
fn signals_that_cannot_be_received_are_refused_by_name_or_number() {
    for number in [9, 11, 0, -1, 1000] {
        let error = signals(&[SIGCONT, Signal::from_raw(number)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            error.to_string(),
            format!("signal {number} cannot be received")
        );
    }
    assert_eq!(
        (SIGCONT.to_string(), SIGCONT.name()),
        ("SIGCONT".to_owned(), Some("SIGCONT"))
    );
}

#[test]
fn a_second_signal_to_end_ends_the_process_though_the_worker_is_held() {
    let output = super::child("processes::child_that_is_told_to_end_twice");
    assert_eq!(
        output.status.code(),
        Some(128 + SIGINT.as_raw()),
        "{output:?}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SIGTERM was received"), "{text}");
}

#[test]
#[ignore = "a child of the one above: it ends by a signal"]
fn child_that_is_told_to_end_twice() {
    let dropped = shutdown_signals(&[SIGTERM, SIGINT]).unwrap();
    raise(SIGTERM);
    drop(dropped);
    on(1, || {
        let asked = shutdown_signals(&[SIGTERM, SIGINT]).unwrap();
        // What came to another receiver before counts as nothing here.
        raise(SIGTERM);
        println!("{} was received", asked.recv().unwrap());
        raise(SIGINT);
    });
    unreachable!("the process has ended");
}

#[test]
fn what_cannot_be_received_is_no_signal_to_end_either() {
    let input = Signal::from_raw(29);
    let error = shutdown_signals(&[input, Signal::from_raw(9)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // Nothing of it is left.
    raise(input);
    raise(input);
}
