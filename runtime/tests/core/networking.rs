//! Sockets over loopback.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use maniple::{
    cancel::is_cancelled_error,
    net::{Shutdown, TcpListener, TcpStream},
    spawn, timeout,
};

use super::on;

const SHORT: Duration = Duration::from_millis(10);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn timeouts_deadlines_and_cancels_have_their_kinds() {
    on(1, || {
        let (mut client, _server) = pair();
        assert!(client.set_read_timeout(Some(Duration::ZERO)).is_err());
        client.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(
            client.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        client.set_read_timeout(None).unwrap();
        let cut = timeout(SHORT, || client.read(&mut [0])).unwrap();
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::TimedOut);
        let reader = spawn(move || client.read(&mut [0]));
        maniple::yield_now();
        reader.cancel();
        let error = reader.join().unwrap().unwrap_err();
        assert!(is_cancelled_error(&error) && error.kind() != ErrorKind::Interrupted);
    });
}

#[test]
fn the_end_after_a_short_read_is_not_missed() {
    on(1, || {
        for _ in 0..200 {
            let (mut client, mut server) = pair();
            server.write_all(b"bye").unwrap();
            drop(server);
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"bye");
        }
    });
}

#[test]
fn a_half_closed_stream_still_answers() {
    on(2, || {
        let (mut client, mut server) = pair();
        let answering = spawn(move || {
            let mut question = String::new();
            server.read_to_string(&mut question).unwrap();
            server
                .write_all(question.to_uppercase().as_bytes())
                .unwrap();
        });
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "QUESTION");
        answering.join().unwrap();
    });
}

#[test]
fn two_coroutines_share_a_stream_and_back_pressure_holds() {
    on(2, || {
        const BYTES: usize = 16 << 20;
        let (client, server) = pair();
        let echo = spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let mut stream = &server;
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => return server.shutdown(Shutdown::Write).unwrap(),
                    count => stream.write_all(&buffer[..count]).unwrap(),
                }
            }
        });
        let ((), received) = maniple::join!(
            {
                (&client).write_all(&vec![7; BYTES]).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            },
            {
                let mut all = Vec::new();
                (&client).read_to_end(&mut all).unwrap();
                all
            }
        );
        assert!(received.len() == BYTES && received.iter().all(|&byte| byte == 7));
        echo.join().unwrap();
    });
}

#[test]
fn refused_connections_and_bad_addresses_are_errors() {
    on(1, || {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = TcpListener::bind(busy.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with("bind 127.0.0.1:"), "{error}");
        assert!(TcpStream::connect_timeout(&address, Duration::ZERO).is_err());
    });
}

#[test]
fn names_are_looked_up_off_the_worker() {
    on(1, || {
        let listener = TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("localhost", port)).unwrap();
        assert!(TcpStream::connect("no.such.host.invalid:1").is_err());
    });
}

#[test]
fn std_and_plain_threads_use_the_same_sockets() {
    let (client, server) = pair();
    let mut client = std::net::TcpStream::try_from(client).unwrap();
    let mut server = TcpStream::try_from(std::net::TcpStream::try_from(server).unwrap()).unwrap();
    server.write_all(b"plain").unwrap();
    let mut buffer = [0; 5];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"plain");
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(
        server.read(&mut buffer).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(
        server.try_read(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    client.write_all(b"peek").unwrap();
    server.set_read_timeout(None).unwrap();
    assert_eq!(server.peek(&mut buffer).unwrap(), 4);
    let late = server.wait_readable_until(Instant::now());
    assert!(late.is_ok() || late.unwrap_err().kind() == ErrorKind::TimedOut);
}

#[test]
fn a_stream_may_be_used_and_dropped_on_any_worker() {
    on(2, || {
        let threads = maniple::task::spawn_on_workers(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..500 {
                let mut client = TcpStream::connect(address).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                client
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                let reader = std::thread::spawn(move || drop(client.read(&mut [0; 4])));
                server.write_all(b"over").unwrap();
                maniple::offload(|| reader.join().unwrap()).unwrap();
                let mover = spawn(move || drop(server));
                mover.join().unwrap();
            }
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn several_acceptors_share_a_listener() {
    on(2, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted: Result<usize, maniple::JoinError> = maniple::group(|g| {
            let acceptors: Vec<_> = (0..4)
                .map(|_| g.spawn(|| (0..50).filter(|_| listener.accept().is_ok()).count()))
                .collect();
            let clients: Vec<_> = (0..200)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let total = acceptors.into_iter().map(|acceptor| acceptor.join()).sum();
            drop(clients);
            total
        });
        assert_eq!(accepted.unwrap(), 200);
    });
}
