//! Servers that are written byte by byte, as the client meets them.

use maniple::net::TcpListener;
use maniple_server::{
    ClientError,
    http2::{Link, LinkError, LinkSettings},
    transport::Dialed,
};

use super::{
    asking::client,
    client::{get, post},
    raw::{
        ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, answer,
        block, frame,
    },
    run,
};

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Python's h2 ends the connection over the second where it takes one at a time.
#[test]
fn one_request_goes_before_the_server_has_said_how_many_it_takes() {
    run(|| {
        let (listener, address) = listen();
        let server = maniple::spawn(move || {
            let mut raw = Raw::accept(&listener);
            assert_eq!(raw.hear_of(HEADERS).unwrap().stream, 1);
            // What comes before its answer was sent before.
            raw.say(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]));
            raw.say(&frame(PING, 0, 0, b"is there"));
            assert_eq!(raw.hear_of_any(&[HEADERS, PING]).unwrap().kind, PING);
            for stream in [1, 3, 5] {
                raw.say(&answer(END_STREAM, stream));
                let next = raw.hear_of(HEADERS).map(|next| next.stream);
                assert_eq!(next, (stream < 5).then_some(stream + 2));
            }
        });
        let link = Link::open(Dialed::tcp(&address).unwrap(), &LinkSettings::new()).unwrap();
        let asked = [(); 3].map(|()| link.request(get("/"), true).unwrap().1);
        for mut receiving in asked {
            assert_eq!(receiving.head().unwrap().status(), 200);
        }
        drop(link);
        server.join().unwrap();
    });
}

#[test]
fn many_get_on_from_one_connection_to_the_next_where_each_takes_one_request() {
    run(|| {
        const CALLS: usize = 30;
        let (listener, address) = listen();
        let server = maniple::spawn(move || {
            for _ in 0..CALLS {
                let mut raw = Raw::accept(&listener);
                raw.say(&frame(SETTINGS, 0, 0, &[]));
                raw.say(&frame(SETTINGS, ACK, 0, &[]));
                assert_eq!(raw.hear_of(HEADERS).unwrap().stream, 1);
                let last_and_reason = [0, 0, 0, 1, 0, 0, 0, 0];
                let going = frame(GOAWAY, 0, 0, &last_and_reason);
                // As nginx does it: the answer comes after that.
                raw.say(&going);
                raw.say(&frame(PING, 0, 0, b"is there"));
                assert!(raw.hear_of(PING).is_some());
                raw.say(&answer(END_STREAM, 1));
                while raw.hear().is_some() {}
            }
        });
        let client = client();
        let url = format!("http://{address}/");
        maniple::group::map(CALLS, 0..CALLS, |number| {
            let sent = client.post(&url).body("").send();
            let answer = sent.unwrap_or_else(|error| panic!("{number}: {error:?}"));
            assert_eq!(answer.status(), 200);
        });
        server.join().unwrap();
    });
}

#[test]
fn a_server_that_takes_no_request_over_any_connection_is_given_up() {
    run(|| {
        let (listener, address) = listen();
        let server = maniple::spawn(move || {
            loop {
                let mut raw = Raw::accept(&listener);
                raw.say(&frame(SETTINGS, 0, 0, &[]));
                raw.hear_of(HEADERS);
                raw.say(&frame(GOAWAY, 0, 0, &[0; 8]));
                while raw.hear().is_some() {}
            }
        });
        let (client, url) = (client(), format!("http://{address}/"));
        maniple::group::map(5, 0..5, |_| {
            let error = client.get(&url).unwrap_err();
            assert!(matches!(error, ClientError::Io { .. }), "{error:?}");
        });
        server.cancel();
    });
}

/// So many heads of a `103 Early Hints`.
fn hints(count: usize, stream: u32) -> Vec<u8> {
    let hint = block(&[(":status", "103"), ("link", "</style.css>; rel=preload")]);
    frame(HEADERS, END_HEADERS, stream, &hint).repeat(count)
}

#[test]
fn too_many_heads_before_the_answer_end_a_call_that_waits_for_it_and_no_other() {
    run(|| {
        let (listener, address) = listen();
        let server = maniple::spawn(move || {
            let mut raw = Raw::accept(&listener);
            raw.say(&frame(SETTINGS, 0, 0, &[]));
            assert_eq!(raw.hear_of(HEADERS).unwrap().stream, 1);
            raw.say(&[hints(128, 1), answer(END_STREAM, 1)].concat());
            assert_eq!(raw.hear_of(HEADERS).unwrap().stream, 3);
            raw.say(&hints(129, 3));
            // The next request may overtake that.
            let mut next = [(); 2].map(|()| {
                let frame = raw.hear_of_any(&[HEADERS, RST_STREAM]).unwrap();
                (frame.kind, frame.stream)
            });
            next.sort();
            assert_eq!(next, [(HEADERS, 5), (RST_STREAM, 3)]);
            raw.say(&answer(END_STREAM, 5));
            while raw.hear().is_some() {}
        });
        let link = Link::open(Dialed::tcp(&address).unwrap(), &LinkSettings::new()).unwrap();
        let head = || link.request(get("/"), true).unwrap().1.head();
        assert_eq!(head().unwrap().status(), 200);
        let error = head().unwrap_err();
        assert!(matches!(error, LinkError::Interim), "{error:?}");
        assert_eq!(head().unwrap().status(), 200);
        drop(link);
        server.join().unwrap();
    });
}

#[test]
fn too_many_heads_to_calls_that_nobody_listens_to_end_the_connection() {
    run(|| {
        let (listener, address) = listen();
        let server = maniple::spawn(move || {
            let mut raw = Raw::accept(&listener);
            raw.say(&frame(SETTINGS, 0, 0, &[]));
            for stream in [1, 3] {
                assert_eq!(raw.hear_of(HEADERS).unwrap().stream, stream);
            }
            while raw.say(&[hints(100, 1), hints(100, 3)].concat()) {}
        });
        let link = Link::open(Dialed::tcp(&address).unwrap(), &LinkSettings::new()).unwrap();
        // They send more than the server lets them, and do not look at what comes.
        let mut halves = [(); 2].map(|()| link.request(post("/"), false).unwrap());
        for (sending, _) in &mut halves {
            sending.send(vec![0; 100_000].into(), false).unwrap_err();
        }
        for (_, receiving) in &mut halves {
            let error = receiving.head().unwrap_err();
            assert!(matches!(error, LinkError::Interim), "{error:?}");
            assert!(!error.is_unseen());
        }
        assert!(!link.is_open());
        server.join().unwrap();
    });
}
