//! Bytes in and out: whole, in turns, and by whatever they go.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use maniple::spawn;

use crate::{WHILE, on_one_worker, pair, sleep};

#[test]
fn a_blocking_send_is_complete() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        let bytes = vec![7_u8; 8 << 20];
        let reader = spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got.len()
        });
        // One call each, which goes on for as long as the peer takes.
        assert_eq!(near.write(&bytes).unwrap(), bytes.len());
        let half = io::IoSlice::new(&bytes[..bytes.len() / 2]);
        let slices = [half, io::IoSlice::new(b""), half];
        assert_eq!(near.write_vectored(&slices).unwrap(), bytes.len());
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.join().unwrap(), 2 * bytes.len());
    });
}

#[test]
fn a_call_that_is_to_get_all_gets_all() {
    on_one_worker(|| {
        let (near, mut far) = pair();
        spawn(move || {
            for byte in b"whole" {
                far.write_all(&[*byte]).unwrap();
                sleep(Duration::from_millis(2));
            }
        });
        let mut got = [0_u8; 5];
        // SAFETY: the buffer's own.
        let n = unsafe {
            libc::recv(
                near.as_raw_fd(),
                got.as_mut_ptr().cast(),
                got.len(),
                libc::MSG_WAITALL,
            )
        };
        assert_eq!((n, &got), (5, b"whole"));
    });
}

#[test]
fn pipes_fill_and_empty_between_coroutines_of_a_worker() {
    on_one_worker(|| {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let bytes = vec![3_u8; 1 << 20];
        let length = bytes.len();
        spawn(move || {
            assert_eq!(writer.write(&bytes).unwrap(), length);
            let half = io::IoSlice::new(&bytes[..length / 2]);
            assert_eq!(writer.write_vectored(&[half, half]).unwrap(), length);
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), 2 * length);
    });
}

#[test]
fn a_copy_to_a_connection_suspends() {
    on_one_worker(|| {
        let path = std::env::temp_dir().join(format!("maniple-hook-copy-{}", std::process::id()));
        std::fs::write(&path, vec![5; 8 << 20]).unwrap();
        let mut file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let (mut near, mut far) = pair();
        let reader = spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got.len()
        });
        assert_eq!(io::copy(&mut file, &mut near).unwrap(), 8 << 20);
        drop(near);
        assert_eq!(reader.join().unwrap(), 8 << 20);
        // From a pipe, too.
        let ((mut from, mut to), (mut near, mut far)) = (io::pipe().unwrap(), pair());
        spawn(move || {
            sleep(WHILE);
            to.write_all(&[5; 1 << 20]).unwrap();
        });
        let reader = spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got.len()
        });
        assert_eq!(io::copy(&mut from, &mut near).unwrap(), 1 << 20);
        drop(near);
        assert_eq!(reader.join().unwrap(), 1 << 20);
    });
}

#[test]
fn files_and_what_has_no_end_are_read_as_they_are() {
    on_one_worker(|| {
        let path = std::env::temp_dir().join(format!("maniple-hook-file-{}", std::process::id()));
        let bytes = vec![9; 3 << 20];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        std::fs::remove_file(path).unwrap();
        let mut random = [0; 64];
        std::fs::File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut random)
            .unwrap();
        assert_ne!(random, [0; 64]);
        std::fs::File::create("/dev/null")
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        assert!(
            std::fs::read_to_string("/proc/self/status")
                .unwrap()
                .contains("Name:")
        );
    });
}

#[test]
fn errors_are_the_kernels_and_in_errno() {
    on_one_worker(|| {
        let mut byte = [0_u8];
        let to: *mut libc::c_void = byte.as_mut_ptr().cast();
        let errno = || io::Error::last_os_error().raw_os_error().unwrap();
        // SAFETY: a buffer of one byte, and no descriptor.
        unsafe {
            assert_eq!((libc::read(-1, to, 1), errno()), (-1, libc::EBADF));
            assert_eq!((libc::recv(1 << 19, to, 1, 0), errno()), (-1, libc::EBADF));
            assert_eq!((libc::write(-1, to, 1), errno()), (-1, libc::EBADF));
            assert_eq!(
                (
                    libc::accept(0x7fff_ffff, std::ptr::null_mut(), std::ptr::null_mut()),
                    errno()
                ),
                (-1, libc::EBADF)
            );
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            assert_eq!(
                (libc::recv(file.as_raw_fd(), to, 1, 0), errno()),
                (-1, libc::ENOTSOCK)
            );
            assert_eq!(
                (libc::write(file.as_raw_fd(), to, 1), errno()),
                (-1, libc::EBADF)
            );
            assert_eq!(libc::read(file.as_raw_fd(), to, 1), 1);
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_eq!(
                (libc::send(udp.as_raw_fd(), to, 1, 0), errno()),
                (-1, libc::EDESTADDRREQ)
            );
            let time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000_000,
            };
            assert_eq!(
                (
                    libc::nanosleep(&raw const time, std::ptr::null_mut()),
                    errno()
                ),
                (-1, libc::EINVAL)
            );
        }
    });
}

/// So many messages of one byte of `bytes` each.
fn messages(slices: &mut [libc::iovec], bytes: &mut [u8]) -> Vec<libc::mmsghdr> {
    let slices = slices.iter_mut().zip(bytes);
    slices
        .map(|(slice, byte)| {
            (slice.iov_base, slice.iov_len) = ((&raw mut *byte).cast(), 1);
            // SAFETY: zero is nothing in each of its fields.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (slice, 1);
            message
        })
        .collect()
}

const NO_SLICE: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

#[test]
fn many_messages_are_received_by_a_call_as_they_come() {
    on_one_worker(|| {
        let (near, far) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let address = near.local_addr().unwrap();
        let receive = |count: usize, flags: i32, time: Option<Duration>| {
            let (mut slices, mut bytes) = ([NO_SLICE; 8], [0; 8]);
            let mut all = messages(&mut slices, &mut bytes);
            let mut time = time.map(|time| libc::timespec {
                tv_sec: time.as_secs() as i64,
                tv_nsec: i64::from(time.subsec_nanos()),
            });
            let timeout = time.as_mut().map_or(std::ptr::null_mut(), |time| time);
            let (fd, all) = (near.as_raw_fd(), all.as_mut_ptr());
            // SAFETY: no more messages than there are, with room for a byte each, and a time.
            let got = unsafe { libc::recvmmsg(fd, all, count as u32, flags, timeout) };
            let left = time.map(|time| (time.tv_sec, time.tv_nsec));
            (got, bytes[..count].to_vec(), left)
        };
        let send = |texts: &'static [&'static str]| {
            let far = far.try_clone().unwrap();
            spawn(move || {
                for text in texts {
                    for byte in text.bytes() {
                        far.send_to(&[byte], address).unwrap();
                    }
                    sleep(Duration::from_millis(2));
                }
            })
        };
        let sender = send(&["ab", "c", "d"]);
        assert_eq!(receive(4, 0, None), (4, b"abcd".to_vec(), None));
        sender.join().unwrap();
        let sender = send(&["ab", "c"]);
        let (got, bytes, _) = receive(4, libc::MSG_WAITFORONE, None);
        assert_eq!((got, &bytes[..2]), (2, &b"ab"[..]));
        sender.join().unwrap();
        // The time is looked at once a message has come.
        let (got, bytes, left) = receive(4, 0, Some(Duration::ZERO));
        assert_eq!((got, bytes[0], left), (1, b'c', Some((0, 0))));
        let sender = send(&["a", "b"]);
        let (got, _, left) = receive(2, 0, Some(Duration::from_secs(3)));
        assert!(got == 2 && left.unwrap().0 < 3, "{left:?}");
        sender.join().unwrap();
        let (got, ..) = receive(2, 0, Some(Duration::MAX));
        assert_eq!(got, -1);
        assert_eq!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::EINVAL)
        );
        let (got, ..) = receive(2, libc::MSG_DONTWAIT, None);
        assert_eq!(got, -1);
        let cut = maniple::timeout(WHILE, || {
            (receive(2, 0, None).0, io::Error::last_os_error())
        });
        let (got, error) = cut.unwrap();
        assert_eq!((got, error.raw_os_error()), (-1, Some(libc::ETIMEDOUT)));
    });
}

#[test]
fn many_messages_are_sent_by_a_call_however_little_room_there_is() {
    on_one_worker(|| {
        const MANY: usize = 500;
        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
        for kind in kinds {
            let mut ends = [0; 2];
            // SAFETY: room for two; ours from here on.
            let (near, far) = unsafe {
                assert_eq!(
                    libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()),
                    0
                );
                (
                    UnixStream::from_raw_fd(ends[0]),
                    UnixStream::from_raw_fd(ends[1]),
                )
            };
            let reader = spawn(move || {
                let mut got = Vec::new();
                while got.len() < MANY {
                    let mut some = [0; 64];
                    let count = (&far).read(&mut some).unwrap();
                    got.extend_from_slice(&some[..count]);
                    maniple::yield_now();
                }
                got
            });
            let mut slices = [NO_SLICE; MANY];
            let mut bytes: Vec<u8> = (0..MANY).map(|n| n as u8).collect();
            let mut all = messages(&mut slices, &mut bytes);
            // SAFETY: so many messages, of a byte each.
            let sent =
                unsafe { libc::sendmmsg(near.as_raw_fd(), all.as_mut_ptr(), MANY as u32, 0) };
            assert_eq!(sent, MANY as i32);
            assert!(all.iter().all(|message| message.msg_len == 1));
            assert_eq!(reader.join().unwrap(), bytes);
        }
    });
}

#[test]
fn a_loop_that_never_has_to_wait_lets_others_have_their_turn() {
    on_one_worker(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let theirs = stop.clone();
        spawn(move || theirs.store(true, std::sync::atomic::Ordering::Relaxed));
        let (mut near, mut far) = (near, far);
        let mut turns = 0_u64;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            near.write_all(b"x").unwrap();
            far.read_exact(&mut [0]).unwrap();
            turns += 1;
        }
        assert!(turns < 100_000);
    });
}
