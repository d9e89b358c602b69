//! Bytes from one side to the other: all of them, in order, with the end handed on.

use std::{
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
};

use maniple::{
    cancel::is_cancelled_error,
    io,
    net::{PipeReader, PipeWriter, Shutdown, TcpListener, TcpStream, UnixStream, pipe},
    spawn, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

const BYTES: usize = 1 << 20;

fn sample() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251) as u8).collect()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Feeds `source`, splices, and holds that everything comes out of `sink`.
fn carries<F, T>(
    mut source: impl Write + Send + 'static,
    from: F,
    to: T,
    mut sink: impl Read + Send + 'static,
) where
    F: io::SpliceFrom,
    T: io::SpliceTo,
{
    let feeding = spawn(move || source.write_all(&sample()).unwrap());
    let reading = spawn(move || {
        let mut all = Vec::new();
        sink.read_to_end(&mut all).unwrap();
        assert!(all == sample());
    });
    assert_eq!(io::splice(&from, &to).unwrap(), BYTES as u64);
    drop(to);
    feeding.join().unwrap();
    reading.join().unwrap();
}

#[test]
fn copying_moves_everything_and_ends_with_the_reader() {
    on(2, || {
        let ((mut reader, mut source), (mut sink, mut writer)) = (pipe().unwrap(), pipe().unwrap());
        let feeding = spawn(move || source.write_all(&sample()).unwrap());
        let copying = spawn(move || io::copy(&mut reader, &mut writer).unwrap());
        let mut all = Vec::new();
        sink.read_to_end(&mut all).unwrap();
        assert!(all == sample());
        assert_eq!(copying.join().unwrap(), BYTES as u64);
        feeding.join().unwrap();
        drop(sink);
        let (_, mut writer) = pipe().unwrap();
        let error = io::copy(&mut &b"nobody reads"[..], &mut writer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn splicing_moves_everything_between_sockets_and_pipes() {
    let body = || {
        let ((a, b), (c, d)) = (tcp_pair(), tcp_pair());
        carries(a, b, c, d);
        let ((a, b), (c, d)) = (UnixStream::pair().unwrap(), tcp_pair());
        carries(a, b, c, d);
        let ((b, a), (c, d)) = (pipe().unwrap(), UnixStream::pair().unwrap());
        carries(a, b, c, d);
        let ((a, b), (d, c)) = (tcp_pair(), pipe().unwrap());
        carries(a, b, c, d);
        let ((b, a), (d, c)) = (pipe().unwrap(), pipe().unwrap());
        carries(a, b, c, d);
    };
    on(1, body);
    on(2, body);
    plain_thread(body).join().unwrap();
}

#[test]
fn what_the_kernel_cannot_splice_is_copied() {
    on(1, || {
        let event = rustix::event::eventfd(7, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let counter = PipeReader::from_fd(event).unwrap();
        let (mut sink, writer) = pipe().unwrap();
        let splicing = spawn(move || io::splice(&counter, &writer));
        let mut seven = [0; 8];
        sink.read_exact(&mut seven).unwrap();
        assert_eq!(u64::from_ne_bytes(seven), 7);
        // An event counter has no end.
        splicing.cancel();
        assert!(is_cancelled_error(&splicing.join().unwrap().unwrap_err()));
        // The other side: what is in the kernel's pipe already comes out of it again.
        let path = std::env::temp_dir().join(format!("maniple-splice-{}", std::process::id()));
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let appender = PipeWriter::from_fd(OwnedFd::from(file)).unwrap();
        let (reader, mut source) = pipe().unwrap();
        source.write_all(b"appended").unwrap();
        drop(source);
        let spliced = io::splice(&reader, &appender);
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((spliced.unwrap(), text.as_slice()), (8, &b"appended"[..]));
    });
}

#[test]
fn a_splice_that_waits_is_cut_on_either_side_and_holds_nothing_meanwhile() {
    on(1, || {
        let ((mut source, from), (to, mut sink)) = (tcp_pair(), tcp_pair());
        from.set_read_timeout(Some(SHORT)).unwrap();
        let late = io::splice(&from, &to).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        from.set_read_timeout(None).unwrap();
        source.write_all(b"through").unwrap();
        let splicing = spawn(move || (io::splice(&from, &to), from, to));
        let mut buffer = [0; 7];
        sink.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"through");
        splicing.cancel();
        let (cut, from, to) = splicing.join().unwrap();
        assert!(is_cancelled_error(&cut.unwrap_err()));
        // Nobody reads: the writing side waits.
        let feeding = spawn(move || drop(source.write_all(&vec![0; 64 << 20])));
        to.set_write_timeout(Some(SHORT)).unwrap();
        assert_eq!(
            io::splice(&from, &to).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        drop(from);
        feeding.join().unwrap();
    });
}

#[test]
fn a_proxy_carries_both_ways_and_hands_each_end_on() {
    on(2, || {
        let ((mut client, near), (far, mut server)) = (tcp_pair(), UnixStream::pair().unwrap());
        let proxy = spawn(move || io::copy_bidirectional(&near, &far));
        let serving = spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).unwrap();
            assert!(all == sample());
            server.write_all(b"got it").unwrap();
        });
        client.write_all(&sample()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "got it");
        serving.join().unwrap();
        assert_eq!(proxy.join().unwrap().unwrap(), (BYTES as u64, 6));
    });
}

#[test]
fn a_proxy_ends_both_ways_at_the_first_error_or_when_cancelled() {
    on(1, || {
        let ((client, near), (far, mut server)) = (tcp_pair(), tcp_pair());
        let proxy = spawn(move || io::copy_bidirectional(&near, &far).map(drop));
        server.write_all(b"unread").unwrap();
        client.wait_readable().unwrap();
        // Closing with unread bytes resets.
        drop(client);
        let error = proxy.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let ((mut client, near), (far, server)) = (tcp_pair(), tcp_pair());
        let proxy = spawn(move || io::copy_bidirectional(&near, &far).map(drop));
        (0..4).for_each(|_| yield_now());
        proxy.cancel();
        assert!(is_cancelled_error(&proxy.join().unwrap().unwrap_err()));
        client.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(server);
    });
}
