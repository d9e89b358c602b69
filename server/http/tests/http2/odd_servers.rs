//! Servers that are written byte by byte, as the client meets them.

use maniple::net::TcpListener;
use maniple_server::{
    ClientError,
    http2::{Link, LinkSettings},
    transport::Dialed,
};

use super::{
    asking::client,
    client::get,
    raw::{ACK, END_STREAM, GOAWAY, HEADERS, PING, Raw, SETTINGS, answer, frame},
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
