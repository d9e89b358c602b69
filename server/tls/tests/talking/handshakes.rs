//! Handshakes: what they come to, how they fail, and how many there are at a time.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::net::{Shutdown, TcpStream};
use maniple_tls::{ClientConfig, Error, ServerConfig, self_signed};

use super::{acquainted, configs, configs_with, connected, in_a_runtime, strangers, tls_error};

const MOMENT: Duration = Duration::from_millis(20);

#[test]
fn both_sides_learn_what_was_agreed_on() {
    in_a_runtime(|| {
        let certificate = self_signed(["localhost"]).unwrap();
        let client = ClientConfig::builder().roots_pem(certificate.chain_pem());
        let client = client.alpn(["h9", "http/1.1"]).build().unwrap();
        let server = ServerConfig::builder()
            .certificate(certificate)
            .alpn(["http/1.1"]);
        let (client, server) = acquainted(&(server.build().unwrap(), client));
        for info in [client.info().unwrap(), server.info().unwrap()] {
            assert_eq!(info.version(), "TLSv1.3");
            assert!(info.cipher_suite().starts_with("TLS13_"), "{info:?}");
            assert_eq!(info.alpn(), Some(&b"http/1.1"[..]));
            assert!(!info.is_resumed());
        }
        assert_eq!(server.info().unwrap().server_name(), Some("localhost"));
        assert_eq!(client.info().unwrap().peer_dns_names(), ["localhost"]);
        assert!(server.info().unwrap().peer_certificates().is_empty());
    });
}

#[test]
fn a_second_connection_resumes_unless_there_are_no_tickets() {
    in_a_runtime(|| {
        for has_tickets in [true, false] {
            let configs = configs_with(|builder| builder.tickets(has_tickets));
            for turn in 0..3 {
                let (client, server) = acquainted(&configs);
                // The tickets come behind the handshake.
                (&server).write_all(b"x").unwrap();
                (&client).read_exact(&mut [0]).unwrap();
                assert_eq!(server.info().unwrap().is_resumed(), has_tickets && turn > 0);
            }
        }
    });
}

/// A socket whose writes are counted; those of one that gathers leave together before it waits.
struct Counted {
    socket: TcpStream,
    writes: AtomicUsize,
    gathered: Option<Mutex<Vec<u8>>>,
}

impl Counted {
    fn of(socket: TcpStream, gathers: bool) -> Self {
        Self {
            socket,
            writes: AtomicUsize::new(0),
            gathered: gathers.then(Mutex::default),
        }
    }

    fn put(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.gathered {
            Some(gathered) => gathered.lock().unwrap().extend_from_slice(bytes),
            None => {
                self.writes.fetch_add(1, SeqCst);
                (&self.socket).write_all(bytes)?;
            }
        }
        Ok(bytes.len())
    }

    fn leave(&self) -> io::Result<()> {
        let gathered = self
            .gathered
            .as_ref()
            .map(|all| mem::take(&mut *all.lock().unwrap()));
        (&self.socket).write_all(&gathered.unwrap_or_default())
    }
}

impl maniple_tls::Transport for Counted {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.leave()?;
        maniple_tls::Transport::read(&self.socket, buffer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        maniple_tls::Transport::try_read(&self.socket, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)
    }

    fn wait_readable(&self, until: Option<Instant>) -> io::Result<()> {
        self.leave()?;
        maniple_tls::Transport::wait_readable(&self.socket, until)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        maniple_tls::Transport::set_write_timeout(&self.socket, timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        maniple_tls::Transport::shutdown(&self.socket, how)
    }
}

#[test]
fn tickets_leave_with_the_answer_to_what_came_with_the_handshake_or_before_the_server_waits() {
    in_a_runtime(|| {
        let configs = configs();
        for answers in [true, false] {
            let (to_server, to_client) = connected();
            let client = Counted::of(to_server, true);
            let client = configs.1.stream(client, "localhost").unwrap();
            let server = configs.0.stream(Counted::of(to_client, false)).unwrap();
            let writes = || server.transport().writes.load(SeqCst);
            maniple::join!(
                {
                    // With the end of the handshake.
                    (&client).write_all(b"ask").unwrap();
                    (&client).read_exact(&mut [0]).unwrap();
                },
                {
                    let mut question = [0; 3];
                    (&server).read_exact(&mut question).unwrap();
                    assert_eq!(writes(), 1, "its part of the handshake");
                    if answers {
                        (&server).write_all(b"a").unwrap();
                        assert_eq!(writes(), 2, "tickets and the answer");
                    } else {
                        let wait = Some(Duration::from_millis(5));
                        server.set_read_timeout(wait).unwrap();
                        let waited = (&server).read(&mut question).unwrap_err();
                        assert_eq!(waited.kind(), ErrorKind::TimedOut);
                        assert_eq!(writes(), 2, "tickets");
                        (&server).write_all(b"a").unwrap();
                    }
                }
            );
            let (client, server) = acquainted(&configs);
            (&server).write_all(b"x").unwrap();
            (&client).read_exact(&mut [0]).unwrap();
            assert!(server.info().unwrap().is_resumed());
        }
    });
}

#[test]
fn a_server_that_is_not_believed_is_told_so() {
    in_a_runtime(|| {
        let (server, _) = configs();
        let (_, client) = configs();
        let (client, server) = strangers(&(server, client));
        let (one, other) =
            maniple::join!(client.handshake().map(drop), server.handshake().map(drop));
        let Error::Handshake(why) = tls_error(one) else {
            panic!("another error");
        };
        assert!(matches!(why, rustls::Error::InvalidCertificate(_)), "{why}");
        let Error::Handshake(told) = tls_error(other) else {
            panic!("another error");
        };
        assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
        // And stays so.
        assert!(matches!(
            tls_error((&server).read(&mut [0])),
            Error::Handshake(_)
        ));
    });
}

#[test]
fn a_name_that_is_not_in_the_certificate_is_not_believed() {
    in_a_runtime(|| {
        let (server, client) = configs();
        let (to_server, to_client) = connected();
        let client = client.stream(to_server, "elsewhere.example").unwrap();
        let server = server.stream(to_client).unwrap();
        let (one, _) = maniple::join!(client.handshake().map(drop), server.handshake().map(drop));
        assert!(tls_error(one).to_string().contains("elsewhere.example"));
        let (to_server, _server) = connected();
        let error = configs().1.stream(to_server, "no name").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn who_speaks_something_else_is_told_from_who_speaks_tls_badly() {
    in_a_runtime(|| {
        let (config, _) = configs();
        let handshake = |bytes: &[u8]| {
            let (mut client, to_client) = connected();
            client.write_all(bytes).unwrap();
            let server = config.stream(to_client).unwrap();
            let error = tls_error(server.handshake());
            (error, client)
        };
        let (error, mut client) = handshake(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(error, Error::PlainHttp);
        // Nothing was said to it, so that whoever knows how may.
        drop(client.read(&mut [0]));
        assert_eq!(handshake(b"OPTIONS * HTTP/1.1\r\n").0, Error::PlainHttp);
        assert_eq!(handshake(b"SSH-2.0-x\r\n").0, Error::NotTls(b'S'));
        assert_eq!(handshake(&[0x80, 0x2e]).0, Error::NotTls(0x80));
        let (error, mut client) = handshake(&[22, 3, 1, 0, 4, 1, 0, 0, 0]);
        assert!(matches!(error, Error::Handshake(_)), "{error:?}");
        // An alert.
        let mut told = [0; 7];
        client.read_exact(&mut told).unwrap();
        assert_eq!(told[0], 21);
    });
}

#[test]
fn who_goes_away_within_the_handshake_is_not_waited_for() {
    in_a_runtime(|| {
        let (config, _) = configs();
        for begun in [
            &b""[..],
            &[22, 3, 1],
            &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        ] {
            let (mut client, to_client) = connected();
            client.write_all(begun).unwrap();
            drop(client);
            let server = config.stream(to_client).unwrap();
            assert_eq!(tls_error(server.handshake()), Error::EndedInHandshake);
        }
    });
}

#[test]
fn a_handshake_has_its_time_and_no_more() {
    in_a_runtime(|| {
        let configs = configs_with(|builder| builder.handshake_timeout(MOMENT));
        let (mut client, to_client) = connected();
        let server = configs.0.stream(to_client).unwrap();
        client.write_all(&[22, 3, 1]).unwrap();
        let error = tls_error((&server).read(&mut [0]));
        assert_eq!(error, Error::HandshakeTimeout(MOMENT));
        // For good.
        assert_eq!(
            tls_error(server.try_read(&mut [0])),
            Error::HandshakeTimeout(MOMENT)
        );
        assert!(server.info().is_none());
    });
}

#[test]
fn a_wait_that_is_cut_short_in_a_handshake_is_gone_on_with() {
    in_a_runtime(|| {
        let (client, server) = strangers(&configs());
        let until = maniple::time::coarse_now() + MOMENT;
        let cut = server.wait_readable_until(until).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::TimedOut);
        assert!(Error::of(&cut).is_none(), "{cut}");
        assert_eq!(
            server.try_read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let cut = maniple::timeout(MOMENT, || server.handshake().map(drop)).unwrap();
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::TimedOut);
        let (one, other) =
            maniple::join!(client.handshake().map(drop), server.handshake().map(drop));
        one.unwrap();
        other.unwrap();
    });
}

#[test]
fn a_handshake_can_be_made_without_waiting() {
    in_a_runtime(|| {
        let (client, server) = strangers(&configs());
        let mut turns = 0;
        loop {
            let one = client.try_write(b"x");
            let other = server.try_read(&mut [0]);
            match (one, other) {
                (_, Ok(1)) => break,
                (one, other) => {
                    for error in one.err().into_iter().chain(other.err()) {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    }
                }
            }
            turns += 1;
            assert!(turns < 1000);
            maniple::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn handshakes_beyond_the_bound_wait_for_others_to_end() {
    in_a_runtime(|| {
        let configs = configs_with(|builder| builder.max_handshakes(1));
        let (mut stalls, to_stalling) = connected();
        let stalling = configs.0.stream(to_stalling).unwrap();
        // Its first bytes take the place.
        stalls.write_all(&[22, 3, 1]).unwrap();
        assert_eq!(
            stalling.try_read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(configs.0.free_handshakes(), 0);
        let (client, server) = strangers(&configs);
        let (shaken, other, ()) = maniple::join!(
            client.handshake().map(drop),
            server.handshake().map(drop),
            {
                maniple::sleep(MOMENT);
                assert!(server.info().is_none() && client.info().is_none());
                drop(stalling);
            }
        );
        shaken.unwrap();
        other.unwrap();
        assert_eq!(configs.0.free_handshakes(), 1);
        // Those that are silent take none.
        let (_silent, to_silent) = connected();
        let silent = configs.0.stream(to_silent).unwrap();
        assert_eq!(
            silent.try_read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(configs.0.free_handshakes(), 1);
    });
}

#[test]
fn handshakes_are_counted_by_what_they_come_to() {
    in_a_runtime(|| {
        let configs = configs();
        let counts = || {
            let so_far = configs.0.handshakes();
            (so_far.full, so_far.resumed, so_far.failed)
        };
        assert_eq!(counts(), (0, 0, 0));
        for turn in 1..=3 {
            let (client, server) = acquainted(&configs);
            (&server).write_all(b"x").unwrap();
            (&client).read_exact(&mut [0]).unwrap();
            // A clone counts together with what it was made of.
            assert_eq!(configs.0.clone().handshakes(), configs.0.handshakes());
            assert_eq!(counts(), (1, turn - 1, 0));
        }
        // Who sends nothing has not begun.
        let (client, server) = connected();
        let server = configs.0.stream(server).unwrap();
        drop(client);
        assert!(server.handshake().is_err());
        drop(server);
        assert_eq!(counts(), (1, 2, 0));
        // Nonsense, a client that breaks off, and one that does not believe.
        for said in [&b"nonsense that is no TLS"[..], b"\x16\x03\x01"] {
            let (mut client, server) = connected();
            let server = configs.0.stream(server).unwrap();
            client.write_all(said).unwrap();
            drop(client);
            assert!(server.handshake().is_err());
        }
        assert_eq!(counts(), (1, 2, 2));
        let (_, stranger) = super::configs();
        let (client, server) = connected();
        let client = stranger.stream(client, "localhost").unwrap();
        let server = configs.0.stream(server).unwrap();
        let (one, other) =
            maniple::join!(client.handshake().map(drop), server.handshake().map(drop));
        assert!(one.is_err() && other.is_err());
        drop(server);
        assert_eq!(counts(), (1, 2, 3));
    });
}

#[test]
fn a_handshake_that_takes_too_long_has_failed() {
    in_a_runtime(|| {
        let (server, _) = configs_with(|builder| builder.handshake_timeout(MOMENT));
        let (client, ours) = connected();
        let stream = server.stream(ours).unwrap();
        assert!(matches!(
            tls_error(stream.handshake().map(drop)),
            Error::HandshakeTimeout(_)
        ));
        drop((client, stream));
        assert_eq!(server.handshakes().failed, 1);
    });
}
