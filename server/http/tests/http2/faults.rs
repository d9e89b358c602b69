//! Clients and ways that fail, as a server meets them: each handler ends in time, and so does the connection.

use std::{io::Write, time::Duration};

use maniple_server::{Body, Request, Response, Router};

use super::{
    Served,
    client::{Tell, told},
    raw::{self, DATA, END_HEADERS, HEADERS, Raw, block, frame, pseudo},
    run,
};

/// What a client does once its request is under way. What it gives back is kept until all has ended.
type Fault = fn(Raw) -> Option<Raw>;

const FAULTS: [(&str, Fault); 5] = [
    ("reset", |raw| {
        raw.vanish();
        None
    }),
    ("close", |_| None),
    ("half open", |raw| {
        raw.fall_silent();
        Some(raw)
    }),
    ("garbage", |mut raw| {
        raw.say(&[0xa5; 64]);
        Some(raw)
    }),
    // It neither says nor hears anything any more.
    ("black hole", Some),
];

#[test]
fn a_handler_ends_in_time_whatever_its_client_does() {
    run(|| {
        let (tell, hear) = told();
        let ended = tell.clone();
        let router = Router::new()
            .post("/", {
                let tell = tell.clone();
                move |request: &mut Request| {
                    tell.send("begun").unwrap();
                    let _told = Told(tell.clone());
                    request.read_body().map(drop)
                }
            })
            .get("/", move |_: &mut Request| {
                let tell = ended.clone();
                Response::text(Body::from_fn(move |out| {
                    tell.send("begun").unwrap();
                    let _told = Told(tell);
                    loop {
                        out.write_all(&[b'x'; 1000])?;
                    }
                }))
            });
        let served = Served::with(router, |builder| {
            builder
                .body_timeout(Duration::from_millis(300))
                .idle_timeout(Duration::from_millis(300))
                .header_timeout(Duration::from_millis(300))
        });
        let mut post = pseudo("/");
        post[0].1 = "POST";
        let begun_body = [
            frame(HEADERS, END_HEADERS, 1, &block(&post)),
            frame(DATA, 0, 1, b"half of"),
        ];
        let requests = [("unary", begun_body.concat()), ("stream", raw::get(1, "/"))];
        for (name, fault) in FAULTS {
            for (kind, request) in &requests {
                println!("{name}, {kind}");
                let mut raw = Raw::connect(served.address(), &[]);
                raw.say(request);
                assert_eq!(hear(), "begun");
                let kept = fault(raw);
                assert_eq!(hear(), "ended");
                while served.handle.connections() > 0 {
                    maniple::sleep(Duration::from_millis(1));
                }
                drop(kept);
            }
        }
    });
}

/// Says that a handler has ended, however it did.
struct Told(Tell<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.send("ended").unwrap();
    }
}
