//! Waiting for the first of many.

use std::{
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use maniple::spawn;

use crate::{WHILE, on_one_worker, pair, sleep};

#[test]
fn poll_and_select_wait_for_the_first_of_many() {
    on_one_worker(|| {
        let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
        let mut fds: Vec<_> = pairs
            .iter()
            .map(|(near, _)| libc::pollfd {
                fd: near.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // One that is left out, and one twice.
        fds.push(libc::pollfd {
            fd: -1,
            events: libc::POLLIN,
            revents: 0,
        });
        fds.push(fds[7]);
        let began = Instant::now();
        // SAFETY: so many entries, of ours.
        let poll = |fds: &mut Vec<libc::pollfd>, timeout| unsafe {
            libc::poll(fds.as_mut_ptr(), fds.len() as _, timeout)
        };
        assert_eq!(poll(&mut fds, 30), 0);
        assert!(began.elapsed() >= Duration::from_millis(30));
        let mut far = pairs[7].1.try_clone().unwrap();
        spawn(move || {
            sleep(WHILE);
            far.write_all(b"x").unwrap();
        });
        assert_eq!(poll(&mut fds, -1), 2);
        assert_eq!(
            (fds[7].revents, fds[6].revents, fds[11].revents),
            (libc::POLLIN, 0, libc::POLLIN)
        );
        // Others of them are not kept from their own waits.
        let (mut near, mut far) = (
            pairs[3].0.try_clone().unwrap(),
            pairs[3].1.try_clone().unwrap(),
        );
        spawn(move || far.write_all(b"y").unwrap());
        near.read_exact(&mut [0]).unwrap();

        // SAFETY: a set of ours, and descriptors below its size.
        unsafe {
            let mut set: libc::fd_set = std::mem::zeroed();
            libc::FD_SET(pairs[1].0.as_raw_fd(), &raw mut set);
            libc::FD_SET(pairs[7].0.as_raw_fd(), &raw mut set);
            let (most, none) = (1024, std::ptr::null_mut());
            let mut time = libc::timeval {
                tv_sec: 60,
                tv_usec: 0,
            };
            assert_eq!(
                libc::select(most, &raw mut set, none, none, &raw mut time),
                1
            );
            assert!(!libc::FD_ISSET(pairs[1].0.as_raw_fd(), &raw const set));
            assert!(libc::FD_ISSET(pairs[7].0.as_raw_fd(), &raw const set));
            libc::FD_CLR(pairs[7].0.as_raw_fd(), &raw mut set);
            libc::FD_SET(pairs[1].0.as_raw_fd(), &raw mut set);
            let mut time = libc::timeval {
                tv_sec: 0,
                tv_usec: 20_000,
            };
            assert_eq!(
                libc::select(most, &raw mut set, none, none, &raw mut time),
                0
            );
            assert!(!libc::FD_ISSET(pairs[1].0.as_raw_fd(), &raw const set));
            assert!(time.tv_sec == 0 && time.tv_usec < 20_000);
        }
    });
}

#[test]
fn poll_of_one_says_what_the_kernel_would() {
    on_one_worker(|| {
        let asked = |fd: &dyn AsRawFd, events, hooked| {
            let mut of = libc::pollfd {
                fd: fd.as_raw_fd(),
                events,
                revents: 0,
            };
            let found = match hooked {
                // SAFETY: one entry, of ours.
                true => i64::from(unsafe { libc::poll(&raw mut of, 1, -1) }),
                // SAFETY: as above; the call as it is.
                false => unsafe { libc::syscall(libc::SYS_ppoll, &raw mut of, 1, 0, 0, 8) },
            };
            (found, of.revents)
        };
        let both = |fd: &dyn AsRawFd, events| {
            let told = asked(fd, events, true);
            assert_eq!(told, asked(fd, events, false));
            told.1
        };
        let half_closed = libc::POLLIN | libc::POLLRDHUP;

        let (near, mut far) = pair();
        let later = spawn(move || {
            far.write_all(b"x").unwrap();
            yields();
            far.shutdown(std::net::Shutdown::Write).unwrap();
            far
        });
        // Another wants something else of the same number, which is there already.
        let number = near.try_clone().unwrap();
        let same = near.as_raw_fd();
        let writes = spawn(move || asked(&same, libc::POLLOUT, true));
        assert_eq!(both(&near, libc::POLLIN), libc::POLLIN);
        assert_eq!(writes.join().unwrap(), (1, libc::POLLOUT));
        (&number).read_exact(&mut [0]).unwrap();
        assert_eq!(both(&near, half_closed), half_closed);
        drop(later.join().unwrap());

        let (near, far) = io::pipe().unwrap();
        let closes = spawn(move || drop(far));
        assert_eq!(both(&near, libc::POLLIN), libc::POLLHUP);
        closes.join().unwrap();

        let (near, far) = io::pipe().unwrap();
        let closes = spawn(move || drop(near));
        // There is room until nobody reads it.
        assert_eq!(both(&far, 0), libc::POLLERR);
        closes.join().unwrap();
    });
}

fn yields() {
    (0..10).for_each(|_| maniple::yield_now());
}

#[test]
fn a_set_of_others_is_waited_for_as_a_descriptor_is() {
    on_one_worker(|| {
        // SAFETY: takes numbers; a descriptor that is ours then.
        let set = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let (near, mut far) = pair();
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 7,
        };
        // SAFETY: an event of ours.
        let added = unsafe {
            libc::epoll_ctl(
                set.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                near.as_raw_fd(),
                &raw mut event,
            )
        };
        assert_eq!(added, 0);
        let wait = |timeout| {
            let mut found = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: room for one.
            let n = unsafe { libc::epoll_wait(set.as_raw_fd(), &raw mut found, 1, timeout) };
            (n, found.u64)
        };
        assert_eq!(wait(20).0, 0);
        spawn(move || {
            sleep(WHILE);
            far.write_all(b"x").unwrap();
        });
        assert_eq!(wait(-1), (1, 7));
    });
}
