//! How connections end, and what each side hears of it.

use std::io::{ErrorKind, Read, Write};

use maniple::net::Shutdown;
use maniple_tls::Error;

use super::{acquainted, configs, connected, in_a_runtime, tls_error};

#[test]
fn each_direction_ends_by_itself() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        (&client).write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tls_error((&client).write(b"x")), Error::Closed);
        let mut heard = String::new();
        (&server).read_to_string(&mut heard).unwrap();
        // And goes on having ended.
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        (&server).write_all(b"answer").unwrap();
        drop(server);
        let mut answer = String::new();
        (&client).read_to_string(&mut answer).unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
    });
}

#[test]
fn an_end_without_close_notify_is_told_from_an_orderly_one() {
    in_a_runtime(|| {
        let configs = configs();
        // As somebody on the way can do.
        for is_cut in [false, true] {
            let (client, server) = acquainted(&configs);
            (&client).write_all(b"some").unwrap();
            if is_cut {
                client.transport().shutdown(Shutdown::Write).unwrap();
            } else {
                drop(client);
            }
            let mut all = Vec::new();
            let read = (&server).read_to_end(&mut all);
            assert_eq!(all, b"some");
            match is_cut {
                false => _ = read.unwrap(),
                true => {
                    assert_eq!(read.as_ref().unwrap_err().kind(), ErrorKind::UnexpectedEof);
                    assert_eq!(tls_error(read), Error::Truncated);
                    // Who half-closes the socket alone may still want an answer.
                    (&server).write_all(b"answer").unwrap();
                    assert_eq!(tls_error(server.peek(&mut [0])), Error::Truncated);
                }
            }
        }
    });
}

#[test]
fn a_stream_that_is_abandoned_ends_in_no_orderly_way() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        server.abandon();
        drop(server);
        assert_eq!(tls_error((&client).read(&mut [0])), Error::Truncated);
    });
}

#[test]
fn who_stops_reading_reads_an_end() {
    in_a_runtime(|| {
        let (_client, server) = acquainted(&configs());
        let (read, ()) = maniple::join!((&server).read(&mut [0]), {
            maniple::yield_now();
            server.shutdown(Shutdown::Read).unwrap();
        });
        assert_eq!(read.unwrap(), 0);
    });
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_connection_for_both() {
    in_a_runtime(|| {
        let configs = configs();
        let (client, server) = acquainted(&configs);
        // A record of application data that no key was used for.
        let mut forged = vec![23, 3, 3, 0, 40];
        forged.extend([7; 40]);
        (&mut client.transport()).write_all(&forged).unwrap();
        let Error::Session(error) = tls_error((&server).read(&mut [0])) else {
            panic!("another error");
        };
        assert_eq!(error, rustls::Error::DecryptError);
        assert!(matches!(
            tls_error((&server).write(b"x")),
            Error::Session(_)
        ));
        // Is told why.
        let Error::Session(error) = tls_error((&client).read(&mut [0])) else {
            panic!("another error");
        };
        let alert = rustls::AlertDescription::BadRecordMac;
        assert_eq!(error, rustls::Error::AlertReceived(alert));
    });
}

#[test]
fn what_comes_in_single_bytes_is_whole_nevertheless() {
    in_a_runtime(|| {
        let (server, client) = configs();
        let (to_server, from_client) = connected();
        let (to_client, from_server) = connected();
        let client = client.stream(to_server, "localhost").unwrap();
        let server = server.stream(to_client).unwrap();
        // From the client to the server byte by byte, back as it comes.
        let there = maniple::spawn({
            let (mut from, mut to) = (
                from_client.try_clone().unwrap(),
                from_server.try_clone().unwrap(),
            );
            move || {
                to.set_nodelay(true).unwrap();
                let mut byte = [0];
                while from.read(&mut byte).unwrap() > 0 {
                    to.write_all(&byte).unwrap();
                    maniple::yield_now();
                }
                let _ = to.shutdown(Shutdown::Write);
            }
        });
        let back = maniple::spawn(move || {
            let (mut from, mut to) = (from_server, from_client);
            // Until the one or the other has gone.
            let _ = std::io::copy(&mut from, &mut to);
        });
        let (sent, heard) = maniple::join!(
            {
                (&client).write_all(&[b'y'; 3000]).unwrap();
                client.shutdown(Shutdown::Write)
            },
            {
                let mut heard = Vec::new();
                (&server).read_to_end(&mut heard).map(|_| heard)
            }
        );
        sent.unwrap();
        assert_eq!(heard.unwrap(), [b'y'; 3000]);
        drop((server, client));
        there.join().unwrap();
        back.join().unwrap();
    });
}
