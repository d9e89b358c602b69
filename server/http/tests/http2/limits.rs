//! What a client cannot do to a server: each class of attack, with input that harms nobody.

use std::time::Duration;

use maniple_server::{Request, Router, server::Http2};

use super::{
    Served,
    client::told,
    raw::{
        self, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
        PING, PRIORITY, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, frame, pseudo,
    },
    run,
};

fn hello() -> Router {
    Router::new().get("/", |_: &mut Request| "hello")
}

/// Sends that so often, and expects the connection to end with that code.
fn is_cut_off(
    served: &Served,
    before: &[u8],
    again: impl Fn(u32) -> Vec<u8>,
    times: u32,
    code: u32,
) {
    let mut raw = Raw::connect(served.address(), &[]);
    raw.say(before);
    for time in 0..times {
        if !raw.say(&again(time)) {
            break;
        }
    }
    let goodbye = raw.hear_of(GOAWAY).expect("it says why");
    assert_eq!(goodbye.code(), code, "{goodbye:?}");
    assert_eq!(raw.hear_of(GOAWAY), None);
}

#[test]
fn frames_that_ask_for_nothing_are_bounded() {
    run(|| {
        let settings = Http2::new().max_control_frames(50);
        let served = Served::with(hello(), |builder| builder.http2(settings));
        let kinds: [(&str, Vec<u8>); 5] = [
            ("PING", frame(PING, 0, 0, &[0; 8])),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
            ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
            (
                "WINDOW_UPDATE",
                frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
            ),
            ("unknown", frame(0xbe, 0, 0, b"anything")),
        ];
        for (name, one) in kinds {
            println!("{name}");
            is_cut_off(&served, &[], |_| one.clone(), 2_000, ENHANCE_YOUR_CALM);
        }
        let post = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "t"),
            (":path", "/"),
        ];
        let begun = frame(HEADERS, END_HEADERS, 1, &block(&post));
        let empty = |_| frame(DATA, 0, 1, &[]);
        is_cut_off(&served, &begun, empty, 2_000, ENHANCE_YOUR_CALM);
    });
}

#[test]
fn answers_earn_a_client_its_control_frames() {
    run(|| {
        let settings = Http2::new().max_control_frames(20);
        let served = Served::with(hello(), |builder| builder.http2(settings));
        let mut raw = Raw::connect(served.address(), &[]);
        for time in 0..200 {
            raw.say(&raw::get(2 * time + 1, "/"));
            assert!(raw.hear_of(DATA).is_some());
            raw.say(&frame(PING, 0, 0, &[0; 8]));
            assert!(raw.hear_of(PING).is_some());
        }
    });
}

#[test]
fn requests_that_are_reset_at_once_are_bounded() {
    run(|| {
        let settings = Http2::new().max_resets(20);
        let served = Served::with(hello(), |builder| builder.http2(settings));
        let rapid = |time: u32| {
            let stream = 2 * time + 1;
            let mut both = raw::get(stream, "/");
            both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            both
        };
        is_cut_off(&served, &[], rapid, 2_000, ENHANCE_YOUR_CALM);
    });
}

#[test]
fn resets_that_a_client_provokes_are_bounded() {
    run(|| {
        let served = Served::of(hello());
        // A window that is wider than any can be is an error of its stream (RFC 9113, 6.9.1).
        let provoking = |time: u32| {
            let stream = 2 * time + 1;
            let mut both = frame(HEADERS, END_HEADERS, stream, &block(&pseudo("/")));
            both.extend(frame(
                WINDOW_UPDATE,
                0,
                stream,
                &((1_u32 << 31) - 1).to_be_bytes(),
            ));
            both
        };
        is_cut_off(&served, &[], provoking, 5_000, ENHANCE_YOUR_CALM);
    });
}

#[test]
fn handlers_are_bounded_whatever_is_reset() {
    run(|| {
        let (tell, hear) = told();
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new().get("/", move |_: &mut Request| {
            tell.send(()).unwrap();
            // One that cannot be cut.
            maniple::cancel::shield(|| gate.recv().unwrap());
            "late"
        });
        let settings = Http2::new().max_streams(3);
        let served = Served::with(router, |builder| builder.http2(settings));
        let mut raw = Raw::connect(served.address(), &[]);
        for stream in [1, 3, 5] {
            raw.say(&raw::get(stream, "/"));
            hear();
        }
        for stream in [1, 3, 5] {
            raw.say(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        raw.say(&raw::get(7, "/"));
        raw.say(&frame(PING, 0, 0, b"still on"));
        assert_eq!(raw.hear_of(PING).unwrap().payload, b"still on");
        // There is room in the protocol, and three are at work: the fourth has not begun.
        assert_eq!(served.handle.connections(), 1);
        assert!(maniple::timeout(Duration::from_millis(50), &hear).is_err());
        open.send(()).unwrap();
        hear();
        for _ in 0..3 {
            open.send(()).unwrap();
        }
        assert_eq!(raw.hear_of(HEADERS).unwrap().stream, 7);
    });
}

#[test]
fn more_requests_at_a_time_than_were_agreed_on_are_refused() {
    run(|| {
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new().get("/", move |_: &mut Request| {
            gate.recv().unwrap();
            "late"
        });
        let settings = Http2::new().max_streams(2);
        let served = Served::with(router, |builder| builder.http2(settings));
        let mut raw = Raw::connect(served.address(), &[]);
        let agreed = raw.hear_of(SETTINGS).unwrap();
        let limit = agreed
            .payload
            .chunks(6)
            .find(|setting| setting[..2] == [0, 3]);
        assert_eq!(limit.unwrap()[2..], 2_u32.to_be_bytes());
        for stream in [1, 3, 5] {
            raw.say(&raw::get(stream, "/"));
        }
        let refused = raw.hear_of(RST_STREAM).unwrap();
        assert_eq!((refused.stream, refused.code()), (5, 7));
        for _ in 0..2 {
            open.send(()).unwrap();
            assert!(raw.hear_of(HEADERS).is_some());
        }
    });
}

#[test]
fn heads_are_bounded_in_bytes_and_in_fields() {
    run(|| {
        let served = Served::with(hello(), |builder| {
            builder.max_header_bytes(4_000).max_header_fields(20)
        });
        let value = "x".repeat(1_000);
        let mut long = pseudo("/").to_vec();
        long.extend([("x-long", value.as_str()); 4]);
        let mut many = pseudo("/").to_vec();
        many.extend([("x", "y"); 20]);
        for fields in [long, many] {
            let mut raw = Raw::connect(served.address(), &[(1, 0)]);
            raw.say(&frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &block(&fields),
            ));
            let head = raw.hear_of(HEADERS).unwrap();
            assert_eq!(head.status(), 431);
        }
    });
}

#[test]
fn a_head_of_endless_pieces_is_cut_off() {
    run(|| {
        let served = Served::of(hello());
        let begun = frame(HEADERS, END_STREAM, 1, &block(&pseudo("/")));
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&begun);
        let piece = frame(CONTINUATION, 0, 1, &block(&[("x-more", "of it")]));
        for _ in 0..100_000 {
            if !raw.say(&piece) {
                break;
            }
        }
        let goodbye = raw.hear_of(GOAWAY).map(|goodbye| goodbye.code());
        assert_eq!(goodbye, Some(ENHANCE_YOUR_CALM));
    });
}

#[test]
fn a_head_that_names_one_entry_again_and_again_stays_within_the_limit() {
    run(|| {
        let served = Served::of(hello());
        let mut raw = Raw::connect(served.address(), &[(1, 0)]);
        // An entry of some thousand bytes, put into the table and then named by a byte each time (RFC 7541, 6.1 and 6.2.1).
        let mut bomb = block(&pseudo("/"));
        let value = "x".repeat(4_000);
        let entry = block(&[("x-bomb", &value)]);
        bomb.push(0x40);
        bomb.extend(&entry[1..]);
        bomb.extend([0xbe; 10_000]);
        raw.say(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb));
        match raw.hear_of_any(&[HEADERS, GOAWAY]) {
            Some(head) if head.kind == HEADERS => assert_eq!(head.status(), 431),
            Some(goodbye) => assert_ne!(goodbye.code(), 0),
            None => {}
        }
        // Others are served.
        let mut other = Raw::connect(served.address(), &[]);
        other.say(&raw::get(1, "/"));
        assert!(other.hear_of(DATA).is_some());
    });
}

#[test]
fn a_frame_that_is_too_long_is_refused() {
    run(|| {
        let served = Served::of(hello());
        let long = frame(HEADERS, END_HEADERS, 1, &[0; 20_000]);
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&long);
        let goodbye = raw.hear_of(GOAWAY).unwrap();
        assert_eq!(goodbye.code(), 6);
    });
}

#[test]
fn what_has_begun_must_come_in_time() {
    run(|| {
        let served = Served::with(hello(), |builder| {
            builder.header_timeout(Duration::from_millis(200))
        });
        let head = frame(HEADERS, END_STREAM, 1, &block(&pseudo("/")));
        for part in [&head[..], &head[..5], &head[..20]] {
            let mut raw = Raw::connect(served.address(), &[]);
            raw.say(part);
            let goodbye = raw.hear_of(GOAWAY).unwrap();
            assert_eq!(goodbye.code(), ENHANCE_YOUR_CALM);
        }
        // The rest of a preface, too.
        use std::io::{Read, Write};
        let mut stream = maniple::net::TcpStream::connect(served.address()).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nS").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
}

#[test]
fn a_connection_that_asks_for_nothing_is_told_and_ended() {
    run(|| {
        let served = Served::with(hello(), |builder| {
            builder
                .idle_timeout(Duration::from_millis(200))
                .header_timeout(Duration::from_millis(200))
        });
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&raw::get(1, "/"));
        assert!(raw.hear_of(DATA).is_some());
        let goodbye = raw.hear_of(GOAWAY).unwrap();
        assert_eq!(goodbye.code(), 0);
        // It does not say that it heard that, and is closed all the same.
        while raw.hear().is_some() {}
    });
}

#[test]
fn a_window_that_is_never_opened_holds_an_answer_no_longer_than_the_idle_time() {
    run(|| {
        let served = Served::with(hello(), |builder| {
            builder
                .idle_timeout(Duration::from_millis(200))
                .header_timeout(Duration::from_millis(200))
                .body_timeout(Duration::from_millis(200))
        });
        let mut raw = Raw::connect(served.address(), &[(4, 0)]);
        raw.say(&raw::get(1, "/"));
        assert!(raw.hear_of(HEADERS).is_some());
        while raw.hear().is_some() {}
        while served.handle.connections() > 0 {
            maniple::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn pings_are_to_be_as_far_apart_as_the_server_says() {
    run(|| {
        let settings = Http2::new().ping_interval(Duration::from_secs(60));
        let served = Served::with(hello(), |builder| builder.http2(settings));
        let mut raw = Raw::connect(served.address(), &[]);
        let ping = frame(PING, 0, 0, &[0; 8]);
        // Between answers, some are let pass.
        for stream in [1, 3, 5] {
            raw.say(&[ping.clone(), ping.clone(), raw::get(stream, "/")].concat());
            assert!(raw.hear_of(DATA).is_some());
        }
        raw.say(&ping.repeat(4));
        let goodbye = raw.hear_of(GOAWAY).unwrap();
        assert_eq!((goodbye.code(), goodbye.last()), (ENHANCE_YOUR_CALM, 5));
        assert_eq!(&goodbye.payload[8..], b"too_many_pings");
        while raw.hear().is_some() {}
    });
}

#[test]
fn a_connection_that_is_too_old_ends_with_its_requests_if_they_take_too_long() {
    run(|| {
        let (tell, hear) = told();
        let router = Router::new().get("/", move |_: &mut Request| {
            let slept = maniple::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .accept();
            tell.send(slept.is_err()).unwrap();
            "late"
        });
        let soon = Duration::from_millis(100);
        let served = Served::with(router, |builder| {
            let settings = Http2::new().age_grace(soon);
            builder.http2(settings).max_connection_age(soon)
        });
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&raw::get(1, "/"));
        let goodbye = raw.hear_of(GOAWAY).unwrap();
        assert_eq!(goodbye.code(), 0);
        assert!(hear(), "its wait is cut");
        while raw.hear().is_some() {}
    });
}
