//! Short counts that do not mean an empty queue: a byte that was sent out of band, and whatever else ends a read
//! early, keeps nobody from what lies behind.

use std::{
    io::{ErrorKind, IoSlice, IoSliceMut, Read, Write},
    os::fd::AsFd,
    time::Duration,
};

use maniple::{
    io,
    net::{
        self, PipeReader, PipeWriter, Shutdown, TcpListener, TcpStream, UnixSeqpacket, UnixStream,
    },
    spawn, yield_now,
};
use rustix::net::SendFlags;

use super::on;

/// A reader that waits beside what is there fails rather than hangs.
const BOUND: Duration = Duration::from_secs(10);

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    server.set_read_timeout(Some(BOUND)).unwrap();
    (client, server)
}

fn unix_pair() -> (UnixStream, UnixStream) {
    let (client, server) = UnixStream::pair().unwrap();
    server.set_read_timeout(Some(BOUND)).unwrap();
    (client, server)
}

/// Sends the last of the bytes out of band; false where the kernel cannot.
fn send_urgent(stream: &impl AsFd, bytes: &[u8]) -> bool {
    match rustix::net::send(stream, bytes, SendFlags::OOB) {
        Err(rustix::io::Errno::OPNOTSUPP) => false,
        sent => sent == Ok(bytes.len()),
    }
}

/// Reads until it has so many bytes, each time into more room than comes.
fn read_by(mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>, bytes: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < bytes {
        let mut buffer = [0; 64];
        let n = read(&mut buffer).unwrap();
        assert_ne!(n, 0, "the end, after {got:?}");
        got.extend(&buffer[..n]);
    }
    got
}

type Reading<S> = fn(&S, &mut [u8]) -> std::io::Result<usize>;

/// Every way to read from `S`, each into more room than there are bytes.
macro_rules! ways {
    ($stream:ty) => {{
        let read: Reading<$stream> = |mut stream, buffer| stream.read(buffer);
        let vectored: Reading<$stream> = |mut stream, buffer| {
            let (one, other) = buffer.split_at_mut(32);
            stream.read_vectored(&mut [IoSliceMut::new(one), IoSliceMut::new(other)])
        };
        let peeked: Reading<$stream> = |mut stream, buffer| {
            let n = stream.peek(buffer)?;
            stream.read_exact(&mut buffer[..n]).map(|()| n)
        };
        let tried: Reading<$stream> = |stream, buffer| loop {
            match stream.try_read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.wait_readable()?,
                done => return done,
            }
        };
        [read, vectored, peeked, tried]
    }};
}

/// A reader that waits, and so is known to the driver, before what is sent to it comes.
fn once_waited<S: Read + Write + Send + 'static>(mut client: S, mut server: S) -> (S, S) {
    let waiting = spawn(move || {
        server.read_exact(&mut [0]).unwrap();
        server
    });
    yield_now();
    client.write_all(b"?").unwrap();
    (client, waiting.join().unwrap())
}

#[test]
fn a_tcp_read_finds_what_lies_behind_an_urgent_byte() {
    on(1, || {
        for way in ways!(TcpStream) {
            for round in 0..20 {
                let (client, server) = tcp_pair();
                let (mut client, server) = once_waited(client, server);
                client.write_all(b"abc").unwrap();
                assert!(send_urgent(&client, b"!"));
                client.write_all(b"defghi").unwrap();
                let got = read_by(|buffer| way(&server, buffer), 9);
                assert_eq!(got, b"abcdefghi", "round {round}");
                // It goes on as before, and so does a mark that comes while the reader waits.
                let reading = spawn(move || read_by(|buffer| way(&server, buffer), 9));
                yield_now();
                assert!(send_urgent(&client, b"!"));
                yield_now();
                client.write_all(b"abc").unwrap();
                assert!(send_urgent(&client, b"!"));
                client.write_all(b"defghi").unwrap();
                assert_eq!(reading.join().unwrap(), b"abcdefghi", "round {round}");
            }
        }
    });
}

#[test]
fn a_tcp_reader_survives_a_crowd_of_urgent_bytes_and_finds_the_end() {
    on(1, || {
        for way in ways!(TcpStream) {
            let (client, server) = tcp_pair();
            let (mut client, server) = once_waited(client, server);
            let writing = spawn(move || {
                for at in 0..1_000 {
                    client.write_all(b"data").unwrap();
                    assert!(send_urgent(&client, b"!"));
                    if at % 7 == 0 {
                        yield_now();
                    }
                }
                client.write_all(b".").unwrap();
                client
            });
            let mut got = Vec::new();
            while got.last() != Some(&b'.') {
                got.extend(read_by(|buffer| way(&server, buffer), 1));
            }
            // An urgent byte that a later one overtook has become a byte like others.
            got.retain(|byte| *byte != b'!');
            assert_eq!(got.len(), 4_001);
            let client = writing.join().unwrap();
            assert!(send_urgent(&client, b"!"));
            drop(client);
            assert_eq!(way(&server, &mut [0; 64]).unwrap(), 0);
        }
    });
}

#[test]
fn a_unix_stream_finds_what_lies_behind_an_urgent_byte() {
    on(1, || {
        for way in ways!(UnixStream) {
            let (client, server) = unix_pair();
            let (mut client, server) = once_waited(client, server);
            client.write_all(b"abc").unwrap();
            if !send_urgent(&client, b"!") {
                return;
            }
            client.write_all(b"defghi").unwrap();
            assert_eq!(read_by(|buffer| way(&server, buffer), 9), b"abcdefghi");
            let reading = spawn(move || read_by(|buffer| way(&server, buffer), 9));
            yield_now();
            assert!(send_urgent(&client, b"!"));
            yield_now();
            client.write_all(b"abcdefghi").unwrap();
            assert_eq!(reading.join().unwrap(), b"abcdefghi");
        }
    });
}

/// What comes out at the far end of `splice`.
fn spliced<S>((client, server): (S, S), (to, sink): (S, S)) -> Vec<u8>
where
    S: Read + Write + io::Duplex + AsFd + Send + Sync + 'static,
{
    let (mut client, server) = once_waited(client, server);
    client.write_all(b"abc").unwrap();
    assert!(send_urgent(&client, b"!"));
    client.write_all(b"defghi").unwrap();
    let splicing = spawn(move || io::splice(&server, &to).map(|_| ()));
    let mut sink = sink;
    let mut got = [0; 9];
    sink.read_exact(&mut got).unwrap();
    drop(client);
    splicing.join().unwrap().unwrap();
    got.to_vec()
}

#[test]
fn splicing_goes_on_behind_an_urgent_byte() {
    on(1, || {
        assert_eq!(spliced(tcp_pair(), tcp_pair()), b"abcdefghi");
        let (client, server) = unix_pair();
        if send_urgent(&client, b"?") {
            drop((client, server));
            assert_eq!(spliced(unix_pair(), unix_pair()), b"abcdefghi");
        }
    });
}

#[test]
fn a_proxy_goes_on_behind_urgent_bytes_in_both_directions() {
    on(1, || {
        let ((client, left), (right, server)) = (tcp_pair(), tcp_pair());
        client.set_read_timeout(Some(BOUND)).unwrap();
        server.set_read_timeout(Some(BOUND)).unwrap();
        let proxy = spawn(move || io::copy_bidirectional(&left, &right));
        for _ in 0..20 {
            for (mut from, mut to) in [(&client, &server), (&server, &client)] {
                from.write_all(b"abc").unwrap();
                assert!(send_urgent(from, b"!"));
                from.write_all(b"defghi").unwrap();
                let got = read_by(|buffer| to.read(buffer), 9);
                assert_eq!(got, b"abcdefghi");
            }
        }
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(proxy.join().unwrap().unwrap(), (180, 180));
    });
}

#[test]
fn messages_of_packets_descriptors_and_credentials_are_all_read() {
    on(1, || {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).unwrap();
        let reader = PipeReader::from_fd(reader).unwrap();
        let mut writer = PipeWriter::from_fd(writer).unwrap();
        let reading = spawn(move || read_by(|buffer| (&reader).read(buffer), 9));
        yield_now();
        for packet in [&b"abc"[..], b"def", b"ghi"] {
            writer.write_all(packet).unwrap();
        }
        assert_eq!(reading.join().unwrap(), b"abcdefghi");

        let (client, server) = unix_pair();
        let reading = spawn(move || read_by(|buffer| (&server).read(buffer), 12));
        yield_now();
        for part in [&b"abc"[..], b"def", b"ghi"] {
            client.send_fds(part, &[writer.as_fd()]).unwrap();
        }
        (&client).write_all(b"jkl").unwrap();
        assert_eq!(reading.join().unwrap(), b"abcdefghijkl");

        // A read ends where the sender changes, if senders are told.
        let (client, server) = unix_pair();
        rustix::net::sockopt::set_socket_passcred(&server, true).unwrap();
        let reading = spawn(move || read_by(|buffer| (&server).read(buffer), 8));
        yield_now();
        (&client).write_all(b"ours").unwrap();
        let theirs = client.try_clone().unwrap();
        let mut shell = std::process::Command::new("printf");
        let stdout: std::os::fd::OwnedFd = theirs.into();
        assert!(shell.arg("them").stdout(stdout).status().unwrap().success());
        assert_eq!(reading.join().unwrap(), b"oursthem");
    });
}

#[test]
fn bytes_before_an_end_or_a_reset_are_read_first() {
    on(1, || {
        for reset in [false, true] {
            let (client, server) = tcp_pair();
            let (mut client, mut server) = once_waited(client, server);
            client.write_all(b"some bytes").unwrap();
            if reset {
                client.set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            assert_eq!(read_by(|buffer| server.read(buffer), 10), b"some bytes");
            for _ in 0..3 {
                match (server.read(&mut [0; 64]), reset) {
                    (Ok(0), false) => {}
                    (Err(error), true) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    (read, _) => panic!("{read:?}"),
                }
            }
        }
    });
}

#[test]
fn more_buffers_than_one_call_takes_are_written_in_several() {
    on(1, || {
        let parts: Vec<_> = (0..3_000_u32).map(|at| at.to_be_bytes()).collect();
        let write_all = |writer: &mut dyn Write| {
            let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut slices = &mut slices[..];
            while !slices.is_empty() {
                let n = writer.write_vectored(slices).unwrap();
                IoSlice::advance_slices(&mut slices, n);
            }
        };
        let hold = |mut writer: Box<dyn Write>, mut reader: Box<dyn Read + Send>| {
            let reading = spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            write_all(&mut writer);
            drop(writer);
            assert_eq!(reading.join().unwrap().unwrap(), parts.concat());
        };
        let (client, server) = tcp_pair();
        hold(Box::new(client), Box::new(server));
        let (client, server) = unix_pair();
        hold(Box::new(client), Box::new(server));
        let (reader, writer) = net::pipe().unwrap();
        hold(Box::new(writer), Box::new(reader));
    });
}

#[test]
fn a_reader_learns_of_a_reset_that_a_writer_or_somebody_who_asked_was_told_of() {
    type Taking = fn(&TcpStream);
    let written: Taking = |mut stream| {
        while stream.write(b"anybody?").is_ok() {
            stream.wait_readable().unwrap();
        }
    };
    let asked: Taking = |stream| {
        while stream.take_error().unwrap().is_none() {
            stream.wait_readable().unwrap();
        }
    };
    let cloned: Taking = |stream| {
        let mut clone = stream.try_clone().unwrap();
        while clone.write(b"anybody?").is_ok() {
            clone.wait_readable().unwrap();
        }
    };
    let every = move || {
        for take in [written, asked, cloned] {
            for way in ways!(TcpStream) {
                let (client, server) = tcp_pair();
                client.set_linger(Some(Duration::ZERO)).unwrap();
                drop(client);
                take(&server);
                for _ in 0..3 {
                    let error = way(&server, &mut [0; 64]).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
                let (near, _far) = tcp_pair();
                let error = io::splice(&server, &near).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        }
    };
    on(1, every);
    every();
}

#[test]
fn a_reader_of_unix_connections_learns_of_a_reset_too() {
    on(1, || {
        let (client, server) = unix_pair();
        (&server).write_all(b"never read").unwrap();
        drop(client);
        assert!(server.take_error().unwrap().is_some());
        let error = (&server).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);

        let (client, server) = UnixSeqpacket::pair().unwrap();
        server.send(b"never read").unwrap();
        drop(client);
        let told = server.send(b"anybody?").unwrap_err();
        assert_eq!(told.kind(), ErrorKind::ConnectionReset);
        let error = server.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_end_is_clean_where_the_peer_meant_it_whatever_writers_were_told() {
    on(1, || {
        // Their end came, and a reset after it since our bytes found nobody.
        let (client, mut server) = tcp_pair();
        client.shutdown(Shutdown::Write).unwrap();
        server.write_all(b"never read").unwrap();
        client.wait_readable().unwrap();
        drop(client);
        while server.write(b"more").is_ok() {
            yield_now();
        }
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
        // Our own shutdown.
        let (mut client, mut server) = tcp_pair();
        server.shutdown(Shutdown::Write).unwrap();
        let error = server.write(b"more").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        client.write_all(b"end").unwrap();
        drop(client);
        assert_eq!(read_by(|buffer| server.read(buffer), 3), b"end");
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    });
}
