//! Unix-domain sockets: bounds of messages, full queues, passed descriptors, and who the peer is.

use std::{
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::SocketAddr,
    },
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    net::{
        MOST_FDS, Shutdown, UnixDatagram, UnixListener, UnixSeqpacket, UnixSeqpacketListener,
        UnixStream,
    },
    spawn, yield_now,
};

use super::{LONG, SHORT, anywhere, on, passes_as_child, plain_thread};

/// A path for a socket's file, removed at the end.
struct Path(PathBuf);

impl Path {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "maniple-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn abstract_name() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "maniple {} {}",
        std::process::id(),
        COUNT.fetch_add(1, Relaxed)
    );
    SocketAddr::from_abstract_name(name).unwrap()
}

/// Answers as many messages as it hears.
fn echo(mut stream: UnixStream) {
    let mut buffer = [0; 64];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        stream.write_all(&buffer[..n]).unwrap();
    }
}

#[test]
fn streams_over_a_path_and_over_an_abstract_name_carry_what_is_sent() {
    on(2, || {
        let path = Path::new();
        let (by_path, by_name) = (SocketAddr::from_pathname(&path.0).unwrap(), abstract_name());
        for address in [by_path, by_name] {
            let listener = UnixListener::bind_addr(&address).unwrap();
            let here = format!("{:?}", listener.local_addr().unwrap());
            assert_eq!(here, format!("{address:?}"));
            assert_eq!(
                listener.try_accept().unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            let server = spawn(move || {
                let clients: Vec<_> = (listener.incoming().take(20))
                    .map(|stream| spawn(move || echo(stream.unwrap())))
                    .collect();
                clients
                    .into_iter()
                    .for_each(|client| client.join().unwrap());
            });
            let clients: Vec<_> = (0..20_u32)
                .map(|client| {
                    let address = address.clone();
                    spawn(move || {
                        let mut stream = UnixStream::connect_addr(&address).unwrap();
                        assert!(stream.local_addr().unwrap().is_unnamed());
                        for round in 0..20 {
                            let said = (client * 100 + round).to_be_bytes();
                            stream.write_all(&said).unwrap();
                            let mut heard = [0; 4];
                            stream.read_exact(&mut heard).unwrap();
                            assert_eq!(said, heard);
                        }
                    })
                })
                .collect();
            clients
                .into_iter()
                .for_each(|client| client.join().unwrap());
            server.join().unwrap();
        }
        assert_eq!(
            UnixListener::bind(&path.0).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(
            UnixStream::connect(&path.0).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert!(UnixStream::connect("p".repeat(200)).is_err());
    });
}

#[test]
fn a_reader_and_a_writer_share_a_stream_while_more_than_the_buffers_hold_passes() {
    const BYTES: usize = 4 << 20;
    on(2, || {
        let (one, other) = UnixStream::pair().unwrap();
        let byte = |at: usize| (at % 251) as u8;
        let ((), ()) = maniple::join!(
            {
                let all: Vec<u8> = (0..BYTES).map(byte).collect();
                (&one).write_all(&all).unwrap();
                one.shutdown(Shutdown::Write).unwrap();
            },
            {
                let mut all = Vec::new();
                (&other).read_to_end(&mut all).unwrap();
                assert!(all.into_iter().eq((0..BYTES).map(byte)));
            }
        );
        assert_eq!((&other).write(b"back").unwrap(), 4);
        assert_eq!(one.peek(&mut [0; 8]).unwrap(), 4);
        one.wait_readable().unwrap();
        assert_eq!(one.try_read(&mut [0; 8]).unwrap(), 4);
        drop(other);
        assert_eq!(
            (&one).write(b"nobody").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn a_connection_waits_for_room_in_the_backlog_or_is_cut() {
    on(1, || {
        let address = abstract_name();
        let listener = UnixListener::bind_addr(&address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = UnixStream::connect_addr(&address).unwrap();
        let late = maniple::timeout(SHORT, || UnixStream::connect_addr(&address).map(drop));
        assert_eq!(late.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        let theirs = address.clone();
        let cut = spawn(move || UnixStream::connect_addr(&theirs).map(drop));
        let theirs = address.clone();
        let waiting = spawn(move || UnixStream::connect_addr(&theirs).map(drop));
        yield_now();
        cut.cancel();
        assert!(is_cancelled_error(&cut.join().unwrap().unwrap_err()));
        assert!(!waiting.is_finished());
        listener.accept().unwrap();
        waiting.join().unwrap().unwrap();
        drop(first);
    });
}

#[test]
fn a_send_to_a_full_queue_waits_until_there_is_room_and_loses_nothing() {
    const SENT: u32 = 500;
    let body = |connected: bool| {
        let address = abstract_name();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        if connected {
            sender.connect_addr(&address).unwrap();
        }
        let theirs = address.clone();
        let send = move |sender: &UnixDatagram, number: u32| match connected {
            true => sender.send(&number.to_be_bytes()),
            false => sender.send_to_addr(&number.to_be_bytes(), &theirs),
        };
        sender.set_write_timeout(Some(SHORT)).unwrap();
        let begun = Instant::now();
        let mut queued = 0;
        let error = loop {
            match send(&sender, queued) {
                Ok(_) => queued += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= SHORT, "never early");
        assert!(queued < SENT, "{queued}");
        sender.set_write_timeout(None).unwrap();
        let rest = spawn(move || {
            (queued..SENT).for_each(|number| assert_eq!(send(&sender, number).unwrap(), 4))
        });
        yield_now();
        for number in 0..SENT {
            let mut buffer = [0; 8];
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 4);
            assert_eq!(buffer[..4], number.to_be_bytes());
        }
        rest.join().unwrap();
    };
    on(1, || body(true));
    on(2, || body(false));
}

#[test]
fn datagrams_say_who_sent_them() {
    on(1, || {
        let (path, other) = (Path::new(), Path::new());
        let bound = UnixDatagram::bind(&path.0).unwrap();
        let sender = UnixDatagram::bind(&other.0).unwrap();
        sender.send_to(b"one", &path.0).unwrap();
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"", &path.0)
            .unwrap();
        let mut buffer = [0; 8];
        let (n, from) = bound.recv_from(&mut buffer).unwrap();
        assert_eq!((n, from.as_pathname()), (3, Some(other.0.as_path())));
        let (n, from) = bound.recv_from(&mut buffer).unwrap();
        assert_eq!((n, from.is_unnamed()), (0, true));
        assert_eq!(
            sender.send(b"nobody").unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        assert!(sender.connect("/no/such/socket").is_err());
        sender.connect(&path.0).unwrap();
        assert_eq!(
            sender.peer_addr().unwrap().as_pathname(),
            Some(path.0.as_path())
        );
        drop(bound);
        assert_eq!(
            sender.send(b"gone").unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn a_peer_with_the_longest_name_that_there_is_can_connect() {
    on(1, || {
        let (path, address) = (Path::new(), abstract_name());
        let listener = UnixSeqpacketListener::bind_addr(&address).unwrap();
        // 108 bytes leave no room for a zero at the end; the kernel takes them.
        let mut long = path.0.clone().into_os_string();
        long.push("x".repeat(108 - long.len()));
        let long = Path(long.into());
        let family = rustix::net::AddressFamily::UNIX;
        let kind = rustix::net::SocketType::SEQPACKET;
        let client = rustix::net::socket(family, kind, None).unwrap();
        let name = rustix::net::SocketAddrUnix::new(&long.0).unwrap();
        rustix::net::bind(&client, &name).unwrap();
        let name = address.as_abstract_name().unwrap();
        let name = rustix::net::SocketAddrUnix::new_abstract_name(name).unwrap();
        rustix::net::connect(&client, &name).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.peer_addr().unwrap();
    });
}

#[test]
fn sequenced_packets_keep_their_bounds_and_end() {
    on(1, || {
        let address = abstract_name();
        let listener = UnixSeqpacketListener::bind_addr(&address).unwrap();
        let client = spawn(move || {
            let client = UnixSeqpacket::connect_addr(&address).unwrap();
            for length in [1, 7, 300] {
                assert_eq!(client.send(&vec![b'x'; length]).unwrap(), length);
            }
        });
        let (server, _) = listener.accept().unwrap();
        let mut buffer = [0; 100];
        let lengths: Vec<_> = (0..4).map(|_| server.recv(&mut buffer).unwrap()).collect();
        assert_eq!(lengths, [1, 7, 100, 0]);
        client.join().unwrap();
        assert_eq!(
            server.send(b"nobody").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn peers_know_who_made_the_other_end() {
    on(1, || {
        let (one, _other) = UnixStream::pair().unwrap();
        let me = one.peer_credentials().unwrap();
        assert_eq!(me.pid, Some(std::process::id() as i32));
        assert_eq!(me.uid, rustix::process::geteuid().as_raw());
        assert_eq!(me.gid, rustix::process::getegid().as_raw());
        let alone = UnixDatagram::unbound().unwrap();
        assert_eq!(
            alone.peer_credentials().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    });
}

#[test]
fn descriptors_travel_with_bytes_and_are_whole_at_the_other_end() {
    on(1, || {
        let (one, other) = UnixStream::pair().unwrap();
        let (end, passed) = UnixStream::pair().unwrap();
        let mut fds = Vec::new();
        let receiver = spawn(move || {
            let n = other.recv_fds(&mut [0; 16], &mut fds).unwrap();
            (n, fds, other)
        });
        yield_now();
        let files: Vec<_> = (0..2).map(|_| passed.as_fd()).collect();
        assert_eq!(one.send_fds(b"take", &files).unwrap(), 4);
        let (n, fds, other) = receiver.join().unwrap();
        assert_eq!((n, fds.len()), (4, 2));
        drop(passed);
        let mut fds = fds.into_iter();
        let std = std::os::unix::net::UnixStream::from(fds.next().unwrap());
        let mut passed = UnixStream::try_from(std).unwrap();
        (&end).write_all(b"through").unwrap();
        assert_eq!(passed.read(&mut [0; 16]).unwrap(), 7);
        assert!(
            rustix::io::fcntl_getfd(&passed)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        // Data behind the descriptors, and a receive that does not take them.
        one.send_fds(b"a", &[end.as_fd()]).unwrap();
        (&one).write_all(b"b").unwrap();
        drop((end, fds));
        let mut both = [0; 2];
        (&other).read_exact(&mut both).unwrap();
        assert_eq!(&both, b"ab");
        assert_eq!(
            passed.read(&mut [0]).unwrap(),
            0,
            "the dropped descriptor is closed"
        );
        let many = vec![one.as_fd(); MOST_FDS + 1];
        for refused in [one.send_fds(b"x", &many), one.send_fds(b"", &many[..1])] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let mut fds = Vec::new();
        one.send_fds(b"x", &many[..MOST_FDS]).unwrap();
        other.recv_fds(&mut [0], &mut fds).unwrap();
        assert_eq!(fds.len(), MOST_FDS);
        one.send_fds(b"plain", &[]).unwrap();
        assert_eq!(other.recv_fds(&mut [0; 8], &mut fds).unwrap(), 5);
        assert_eq!(fds.len(), MOST_FDS);
        let (one, other) = UnixSeqpacket::pair().unwrap();
        one.send_fds(b"", &[one.as_fd()]).unwrap();
        assert_eq!(other.recv_fds(&mut [0], &mut fds).unwrap(), 0);
        assert_eq!(fds.len(), MOST_FDS + 1);
    });
}

#[test]
fn a_descriptor_becomes_a_socket_whose_waits_suspend() {
    on(1, || {
        let (one, other) = UnixSeqpacket::pair().unwrap();
        let blocking = OwnedFd::from(other);
        rustix::io::ioctl_fionbio(&blocking, false).unwrap();
        let other = UnixSeqpacket::try_from(blocking).unwrap();
        let flags = rustix::fs::fcntl_getfl(&other).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
        let receiver = spawn(move || other.recv(&mut [0; 8]).unwrap());
        yield_now();
        assert_eq!(one.send(b"four").unwrap(), 4);
        assert_eq!(receiver.join().unwrap(), 4);
    });
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_message() {
    for yields in 0..12 {
        on(1, move || {
            let (one, other) = UnixSeqpacket::pair().unwrap();
            let token = CancelToken::new();
            let theirs = token.clone();
            let receiver = spawn(move || {
                let mut heard = Vec::new();
                let hear = |heard: &mut Vec<_>| {
                    let (mut buffer, mut fds) = ([0; 1], Vec::new());
                    let received = other.recv_fds(&mut buffer, &mut fds);
                    received.map(|_| heard.push((buffer[0], fds.len())))
                };
                let cut = theirs.run(|| {
                    loop {
                        if let Err(error) = hear(&mut heard) {
                            return error;
                        }
                    }
                });
                assert!(is_cancelled_error(&cut.unwrap()));
                while heard.len() < 5 {
                    hear(&mut heard).unwrap();
                }
                heard
            });
            let canceller = spawn(move || {
                (0..yields).for_each(|_| yield_now());
                token.cancel();
            });
            for byte in 0..=4 {
                one.send_fds(&[byte], &[one.as_fd()]).unwrap();
                yield_now();
            }
            canceller.join().unwrap();
            assert_eq!(
                receiver.join().unwrap(),
                [0, 1, 2, 3, 4].map(|byte| (byte, 1))
            );
        });
    }
}

#[test]
fn timeouts_clones_and_conversions_are_those_of_tcp() {
    let body = || {
        let (one, other) = UnixStream::pair().unwrap();
        let zero = one.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);
        one.set_read_timeout(Some(SHORT)).unwrap();
        let begun = Instant::now();
        assert_eq!(
            (&one).read(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(begun.elapsed() >= SHORT, "never early");
        let clone = one.try_clone().unwrap();
        assert_eq!((clone.read_timeout(), clone.write_timeout()), (None, None));
        assert!(clone.take_error().unwrap().is_none());
        let mut std = std::os::unix::net::UnixStream::try_from(clone).unwrap();
        std.write_all(b"std").unwrap();
        other.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!((&other).read(&mut [0; 8]).unwrap(), 3);
        let (one, other) = UnixDatagram::pair().unwrap();
        let one = std::os::unix::net::UnixDatagram::try_from(one).unwrap();
        one.send(b"std").unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 3);
        let owned = OwnedFd::from(other);
        rustix::io::ioctl_fionread(&owned).unwrap();
    };
    on(1, body);
    plain_thread(body).join().unwrap();
}

#[test]
fn a_datagram_that_is_peeked_at_is_still_there() {
    anywhere(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        one.send(b"first").unwrap();
        one.send(b"second").unwrap();
        let mut buffer = [0; 8];
        for _ in 0..3 {
            assert_eq!(other.peek(&mut buffer).unwrap(), 5);
            let (length, from) = other.peek_from(&mut buffer).unwrap();
            assert_eq!(
                (&buffer[..length], from.is_unnamed()),
                (&b"first"[..], true)
            );
        }
        assert_eq!(other.recv(&mut buffer).unwrap(), 5);
        assert_eq!(other.recv(&mut buffer).unwrap(), 6);
    });
}

/// Tells a socket to report more about senders: 16 credentials, 76 the process, by a descriptor.
fn report(socket: &impl AsFd, option: i32) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: it reads an integer.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as _,
        )
    };
    set == 0
}

#[test]
#[ignore = "counts descriptors: a child of the test below"]
fn rights_child() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    on(1, || {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(report(&other, libc::SO_PASSCRED));
        // Older kernels do not know the other.
        report(&other, 76);
        let many = vec![one.as_fd(); MOST_FDS];
        let (before, mut fds) = (count(), Vec::new());
        for _ in 0..10 {
            one.send_fds(b"x", &many).unwrap();
            assert_eq!(other.recv_fds(&mut [0], &mut fds).unwrap(), 1);
            assert_eq!(fds.len(), MOST_FDS);
            fds.clear();
            // Nobody takes them.
            one.send_fds(b"x", &many).unwrap();
            (&other).read_exact(&mut [0]).unwrap();
        }
        assert_eq!(count(), before, "descriptors are left");

        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut few = getrlimit(Resource::Nofile);
        few.current = Some(before as u64 + 50);
        setrlimit(Resource::Nofile, few).unwrap();
        for _ in 0..3 {
            one.send_fds(b"x", &many).unwrap();
            let error = other.recv_fds(&mut [0], &mut fds).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert!(fds.is_empty());
        }
        assert_eq!(count(), before, "descriptors are left");
    });
}

#[test]
fn whatever_comes_with_a_message_no_descriptor_stays_open_that_nobody_asked_for() {
    passes_as_child("unix::rights_child");
}

#[test]
fn a_message_says_how_long_it_is_even_where_its_end_is_lost() {
    on(1, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        one.send(b"a datagram").unwrap();
        one.send(b"short").unwrap();
        let mut buffer = [0; 5];
        assert_eq!(other.recv_len(&mut buffer).unwrap(), 10);
        assert_eq!(&buffer, b"a dat");
        assert_eq!(other.recv_len(&mut buffer).unwrap(), 5);

        let (one, other) = UnixSeqpacket::pair().unwrap();
        one.send(b"a packet").unwrap();
        one.send(b"short").unwrap();
        drop(one);
        assert_eq!(other.recv_len(&mut buffer).unwrap(), 8);
        assert_eq!(&buffer, b"a pac");
        assert_eq!(other.recv_len(&mut buffer).unwrap(), 5);
        assert_eq!(other.recv_len(&mut buffer).unwrap(), 0);
    });
}
