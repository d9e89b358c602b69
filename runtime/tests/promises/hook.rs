//! Waits for calls that know nothing of coroutines.

use std::{
    io::{Read, Write},
    iter,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use maniple::{
    Runtime,
    cancel::{CancelToken, Interrupt},
    hook::{Ended, check, is_coroutine, may_wait, sleep_until, wait_for},
    spawn, timeout, yield_now,
};

const READ: u32 = libc::POLLIN as u32;
const WHILE: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

fn on_one_worker(test: impl FnOnce() + Send) {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| timeout(LONG, test).expect("it does not hang"));
}

fn soon(time: Duration) -> Option<Instant> {
    Some(maniple::time::now() + time)
}

fn readable(fd: BorrowedFd<'_>) -> Ended {
    wait_for(iter::once((fd, READ)), None)
}

/// Of one descriptor it may be known what came; a caller that is told of anything looks again.
fn has_come(ended: Ended) {
    match ended {
        Ended::Ready => {}
        Ended::Came(events) => assert_ne!(events & READ, 0, "{events:#x}"),
        _ => panic!("{ended:?}"),
    }
}

#[test]
fn a_coroutine_may_wait_and_a_plain_thread_is_none() {
    assert!(!is_coroutine() && !may_wait());
    on_one_worker(|| {
        assert!(is_coroutine() && may_wait());
        assert!(!maniple::offload(is_coroutine).unwrap());
    });
}

#[test]
fn a_wait_ends_by_an_event_by_its_own_time_or_cut() {
    on_one_worker(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let wait = |until| wait_for(iter::once((near.as_fd(), READ)), until);
        assert_eq!(wait(soon(WHILE)), Ended::TimedOut);
        let cut = timeout(WHILE, || wait(None)).unwrap();
        assert_eq!(cut, Ended::Cut(Interrupt::Elapsed));
        let token = CancelToken::new();
        let theirs = token.clone();
        spawn(move || theirs.cancel());
        assert_eq!(
            token.run(|| wait(None)),
            Ok(Ended::Cut(Interrupt::Cancelled))
        );
        assert_eq!(token.run(check), Ok(Err(Interrupt::Cancelled)));
        spawn(move || {
            far.write_all(b"x").unwrap();
            far
        });
        has_come(wait(None));
        // Nothing is remembered: it is ready still.
        has_come(wait(None));
    });
}

#[test]
fn what_the_kernel_cannot_watch_is_refused() {
    on_one_worker(|| {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(readable(file.as_fd()), Ended::Refused(libc::EPERM));
        // And beside others, which are not waited for then.
        let (near, _far) = UnixStream::pair().unwrap();
        let both = [(near.as_fd(), READ), (file.as_fd(), READ)];
        assert_eq!(
            wait_for(both.into_iter(), None),
            Ended::Refused(libc::EPERM)
        );
        assert_eq!(
            wait_for(iter::once((near.as_fd(), READ)), soon(WHILE)),
            Ended::TimedOut
        );
    });
}

#[test]
fn the_first_of_many_ends_the_wait_and_those_who_wait_for_the_others_go_on() {
    on_one_worker(|| {
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let alone = {
            let near = pairs[0].0.try_clone().unwrap();
            spawn(move || readable(near.as_fd()))
        };
        // Under the same number as the wait for all.
        let mut far = pairs[2].1.try_clone().unwrap();
        spawn(move || far.write_all(b"x").unwrap());
        let all = || pairs.iter().map(|(near, _)| (near.as_fd(), READ));
        assert_eq!(wait_for(all(), None), Ended::Ready);
        (&pairs[2].0).read_exact(&mut [0]).unwrap();
        assert_eq!(wait_for(all(), soon(WHILE)), Ended::TimedOut);
        assert!(!alone.is_finished());
        (&pairs[0].1).write_all(b"y").unwrap();
        has_come(alone.join().unwrap());
    });
}

#[test]
fn who_waits_for_one_number_is_woken_together() {
    on_one_worker(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let near = std::sync::Arc::new(near);
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let near = near.clone();
                spawn(move || readable(near.as_fd()))
            })
            .collect();
        yield_now();
        far.write_all(b"x").unwrap();
        for waiter in waiters {
            has_come(waiter.join().unwrap());
        }
    });
}

#[test]
fn a_sleep_is_whole_whatever_is_cancelled() {
    on_one_worker(|| {
        let token = CancelToken::new();
        token.cancel();
        let began = Instant::now();
        token
            .run(|| sleep_until(maniple::time::now() + WHILE))
            .unwrap();
        assert!(began.elapsed() >= WHILE);
    });
}
