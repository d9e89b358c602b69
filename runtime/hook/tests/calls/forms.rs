//! The less usual forms of the calls: each suspends as its sisters do, and says what the kernel would.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::TcpStream,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::Command,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use libc::{c_int, timespec};
use maniple::spawn;

use crate::{WHILE, alone_with_children, on_one_worker, pair};

/// A while, for calls that take milliseconds.
const WHILE_MS: c_int = 50;

fn time(of: Duration) -> timespec {
    timespec {
        tv_sec: of.as_secs() as _,
        tv_nsec: of.subsec_nanos().into(),
    }
}

/// What the call came to, and whether a neighbour had its turn meanwhile.
fn watched<T>(call: impl FnOnce() -> T) -> (T, bool) {
    let ran = Arc::new(AtomicBool::new(false));
    let theirs = ran.clone();
    spawn(move || theirs.store(true, Ordering::Relaxed));
    (call(), ran.load(Ordering::Relaxed))
}

/// What a call came to that has to suspend.
fn suspended<T>(call: impl FnOnce() -> T) -> T {
    let (told, ran) = watched(call);
    assert!(ran, "it kept its worker");
    told
}

/// What a call came to that waits until something comes by this end.
fn while_it_comes<T>(mut far: TcpStream, call: impl FnOnce() -> T) -> T {
    spawn(move || {
        far.write_all(b"x").unwrap();
        far
    });
    call()
}

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

#[test]
fn each_way_to_sleep_suspends_and_takes_its_time() {
    on_one_worker(|| {
        let sleeps: [(&str, Duration, &dyn Fn() -> c_int); 3] = [
            // SAFETY: takes a number.
            ("usleep", WHILE, &|| unsafe {
                libc::usleep(WHILE.as_micros() as _)
            }),
            // SAFETY: takes a number.
            ("sleep", Duration::from_secs(1), &|| unsafe {
                libc::sleep(1) as c_int
            }),
            // SAFETY: a time of ours.
            ("clock_nanosleep", WHILE, &|| unsafe {
                let (clock, none) = (libc::CLOCK_MONOTONIC, ptr::null_mut());
                libc::clock_nanosleep(clock, 0, &time(WHILE), none)
            }),
        ];
        for (name, least, call) in sleeps {
            let began = Instant::now();
            assert_eq!(suspended(call), 0, "{name}");
            assert!(began.elapsed() >= least, "{name}");
        }
    });
}

#[test]
fn a_sleep_until_a_time_of_a_clock_ends_then() {
    on_one_worker(|| {
        for clock in [
            libc::CLOCK_MONOTONIC,
            libc::CLOCK_REALTIME,
            libc::CLOCK_BOOTTIME,
        ] {
            let now = || {
                let mut now = time(Duration::ZERO);
                // SAFETY: room for the time.
                assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut now) }, 0);
                Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
            };
            let sleep_until = |until: Duration| {
                let absolute = libc::TIMER_ABSTIME;
                // SAFETY: a time of ours.
                unsafe { libc::clock_nanosleep(clock, absolute, &time(until), ptr::null_mut()) }
            };
            let until = now() + WHILE;
            assert_eq!(suspended(|| sleep_until(until)), 0);
            assert!(now() >= until);
            // One that is over is not waited for.
            assert_eq!(watched(|| sleep_until(until)), (0, false));
        }
        let never = timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000_000,
        };
        let (clock, absolute) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
        // SAFETY: a time of ours.
        let told = unsafe { libc::clock_nanosleep(clock, absolute, &never, ptr::null_mut()) };
        assert_eq!(told, libc::EINVAL);
    });
}

#[test]
fn a_child_is_waited_for_by_its_number_and_by_its_descriptor() {
    let _alone = alone_with_children();
    on_one_worker(|| {
        let child = || Command::new("sh").args(["-c", "sleep 0.1; exit 7"]).spawn();
        let wait = |kind, id| {
            // SAFETY: zero is nothing in each of its fields.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: room for the answer.
            let found = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED) };
            // SAFETY: of a child, or zero.
            (found, unsafe { (info.si_pid(), info.si_status()) })
        };
        let by_number = child().unwrap().id();
        let ended = suspended(|| wait(libc::P_PID, by_number));
        assert_eq!(ended, (0, (by_number as i32, 7)));
        assert_eq!(wait(libc::P_PID, by_number).0, -1, "it has been waited for");
        assert_eq!(errno(), Some(libc::ECHILD));

        let by_descriptor = child().unwrap().id();
        // SAFETY: takes numbers; a descriptor that is ours then.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, by_descriptor, 0);
            OwnedFd::from_raw_fd(fd as c_int)
        };
        let ended = suspended(|| wait(libc::P_PIDFD, fd.as_raw_fd() as u32));
        assert_eq!(ended, (0, (by_descriptor as i32, 7)));
    });
}

fn readable(of: &TcpStream) -> libc::pollfd {
    libc::pollfd {
        fd: of.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }
}

#[test]
fn ppoll_suspends_and_with_a_mask_of_signals_it_does_not() {
    on_one_worker(|| {
        let (near, far) = pair();
        let ppoll = |time: *const timespec, mask: *const libc::sigset_t| {
            let mut of = readable(&near);
            // SAFETY: one entry, a time and a mask, of ours or none.
            let found = unsafe { libc::ppoll(&raw mut of, 1, time, mask) };
            (found, of.revents)
        };
        let (a_while, forever) = (time(WHILE), ptr::null());
        let began = Instant::now();
        assert_eq!(suspended(|| ppoll(&a_while, ptr::null())), (0, 0));
        assert!(began.elapsed() >= WHILE);
        let mask = no_signals();
        assert_eq!(watched(|| ppoll(&a_while, &mask)), ((0, 0), false));
        let found = while_it_comes(far, || ppoll(forever, ptr::null()));
        assert_eq!(found, (1, libc::POLLIN));
    });
}

#[test]
fn pselect_suspends_and_with_a_mask_of_signals_it_does_not() {
    on_one_worker(|| {
        let (near, far) = pair();
        let pselect = |time: *const timespec, mask: *const libc::sigset_t| {
            let (fd, none) = (near.as_raw_fd(), ptr::null_mut());
            // SAFETY: a set of ours, a descriptor below its size, a time and a mask of ours or none.
            unsafe {
                let mut set: libc::fd_set = std::mem::zeroed();
                libc::FD_SET(fd, &raw mut set);
                let found = libc::pselect(fd + 1, &raw mut set, none, none, time, mask);
                (found, libc::FD_ISSET(fd, &raw const set))
            }
        };
        let (a_while, forever) = (time(WHILE), ptr::null());
        let began = Instant::now();
        assert_eq!(suspended(|| pselect(&a_while, ptr::null())), (0, false));
        assert!(began.elapsed() >= WHILE);
        let mask = no_signals();
        assert_eq!(watched(|| pselect(&a_while, &mask)), ((0, false), false));
        let found = while_it_comes(far, || pselect(forever, ptr::null()));
        assert_eq!(found, (1, true));
    });
}

#[test]
fn epoll_pwait_suspends_and_with_a_mask_of_signals_it_does_not() {
    on_one_worker(|| {
        // SAFETY: takes numbers; a descriptor that is ours then.
        let set = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let (near, far) = pair();
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 7,
        };
        let (add, of) = (libc::EPOLL_CTL_ADD, near.as_raw_fd());
        // SAFETY: an event of ours.
        let added = unsafe { libc::epoll_ctl(set.as_raw_fd(), add, of, &raw mut event) };
        assert_eq!(added, 0);
        let wait = |timeout, mask: *const libc::sigset_t| {
            let mut found = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: room for one, and a mask of ours or none.
            let n = unsafe { libc::epoll_pwait(set.as_raw_fd(), &raw mut found, 1, timeout, mask) };
            (n, found.u64)
        };
        let began = Instant::now();
        assert_eq!(suspended(|| wait(WHILE_MS, ptr::null())), (0, 0));
        assert!(began.elapsed() >= WHILE);
        let mask = no_signals();
        assert_eq!(watched(|| wait(WHILE_MS, &mask)), ((0, 0), false));
        assert_eq!(while_it_comes(far, || wait(-1, ptr::null())), (1, 7));
    });
}

fn no_signals() -> libc::sigset_t {
    // SAFETY: room for the set.
    unsafe {
        let mut set = std::mem::zeroed();
        assert_eq!(libc::sigemptyset(&raw mut set), 0);
        set
    }
}

#[test]
fn a_receive_into_several_buffers_suspends() {
    on_one_worker(|| {
        let (mut near, far) = pair();
        let write_soon = |bytes: &'static [u8]| {
            let mut far = far.try_clone().unwrap();
            spawn(move || far.write_all(bytes).unwrap());
        };
        let (mut one, mut two) = ([0; 2], [0; 3]);
        write_soon(b"first");
        let mut slices = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        // readv(2).
        assert_eq!(near.read_vectored(&mut slices).unwrap(), 5);
        assert_eq!((&one, &two), (b"fi", b"rst"));

        let recvmsg = |one: &mut [u8; 2], two: &mut [u8; 3], flags| {
            let mut slices = [IoSliceMut::new(one), IoSliceMut::new(two)];
            // SAFETY: zero is nothing in each of its fields.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            // A slice of std's is one of the C library's.
            message.msg_iov = slices.as_mut_ptr().cast();
            message.msg_iovlen = slices.len();
            // SAFETY: buffers of ours.
            unsafe { libc::recvmsg(near.as_raw_fd(), &raw mut message, flags) }
        };
        write_soon(b"again");
        assert_eq!(recvmsg(&mut one, &mut two, 0), 5);
        assert_eq!((&one, &two), (b"ag", b"ain"));
        let found = watched(|| recvmsg(&mut one, &mut two, libc::MSG_DONTWAIT));
        assert_eq!((found, errno()), ((-1, false), Some(libc::EAGAIN)));
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(recvmsg(&mut one, &mut two, 0), 0);
    });
}

#[test]
fn a_send_from_several_buffers_is_complete() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        let bytes = vec![7_u8; 8 << 20];
        let half = IoSlice::new(&bytes[..bytes.len() / 2]);
        let reader = spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got.len()
        });
        // writev(2).
        let written = suspended(|| near.write_vectored(&[half, half]));
        assert_eq!(written.unwrap(), bytes.len());
        let slices = [half, half];
        // SAFETY: zero is nothing in each of its fields.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        message.msg_iovlen = slices.len();
        // SAFETY: buffers of ours, from which it sends.
        let send = || unsafe { libc::sendmsg(near.as_raw_fd(), &raw const message, 0) };
        assert_eq!(suspended(send), bytes.len() as isize);
        drop(near);
        assert_eq!(reader.join().unwrap(), 2 * bytes.len());
    });
}

/// What C code calls that was compiled with `_FORTIFY_SOURCE`.
#[cfg(target_env = "gnu")]
#[test]
fn the_fortified_calls_suspend_too() {
    unsafe extern "C" {
        fn __recv_chk(fd: c_int, to: *mut u8, length: usize, size: usize, flags: c_int) -> isize;
        fn __read_chk(fd: c_int, to: *mut u8, length: usize, size: usize) -> isize;
        fn __recvfrom_chk(
            fd: c_int,
            to: *mut u8,
            length: usize,
            size: usize,
            flags: c_int,
            peer: *mut libc::sockaddr,
            peer_length: *mut libc::socklen_t,
        ) -> isize;
        fn __poll_chk(of: *mut libc::pollfd, count: libc::nfds_t, ms: c_int, size: usize) -> c_int;
        fn __ppoll_chk(
            of: *mut libc::pollfd,
            count: libc::nfds_t,
            time: *const timespec,
            mask: *const libc::sigset_t,
            size: usize,
        ) -> c_int;
    }
    on_one_worker(|| {
        let (near, far) = pair();
        let (fd, mut to) = (near.as_raw_fd(), [0_u8; 4]);
        let (to, size) = (to.as_mut_ptr(), to.len());
        let again = || far.try_clone().unwrap();
        // SAFETY: in each of these calls, a buffer or an entry of ours, and its size.
        unsafe {
            let got = while_it_comes(again(), || __recv_chk(fd, to, 4, size, 0));
            assert_eq!((got, *to), (1, b'x'));
            let got = while_it_comes(again(), || __read_chk(fd, to, 4, size));
            assert_eq!(got, 1);
            let got = while_it_comes(again(), || {
                __recvfrom_chk(fd, to, 4, size, 0, ptr::null_mut(), ptr::null_mut())
            });
            assert_eq!(got, 1);
            let mut of = readable(&near);
            let entry = size_of_val(&of);
            let found = while_it_comes(again(), || __poll_chk(&raw mut of, 1, -1, entry));
            assert_eq!((found, of.revents), (1, libc::POLLIN));
            assert_eq!(__read_chk(fd, to, 4, size), 1);
            let mut of = readable(&near);
            let found = while_it_comes(again(), || {
                __ppoll_chk(&raw mut of, 1, ptr::null(), ptr::null(), entry)
            });
            assert_eq!((found, of.revents), (1, libc::POLLIN));
        }
    });
}
