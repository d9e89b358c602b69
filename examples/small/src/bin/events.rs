//! Server-sent events: a body that is made while it is sent, one event every second.
//!
//! Try it: `cargo run --bin events`, then `curl -N http://127.0.0.1:8080/clock`.

use std::{env, io, io::Read, time::Duration};

use maniple_server::{Body, Request, Response, Router, Server, StatusCode};

/// Each read waits for the next event. When the client has gone, sending fails and this is dropped.
struct Clock(u64);

impl Read for Clock {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        maniple::sleep(Duration::from_secs(1));
        self.0 += 1;
        let event = format!("id: {0}\ndata: {0} seconds\n\n", self.0);
        (&*event.into_bytes()).read(room) // fits: the server reads kilobytes at a time
    }
}

fn clock(_: &mut Request) -> Response {
    Response::new(StatusCode::OK)
        .with_header("content-type", "text/event-stream")
        .with_header("cache-control", "no-store")
        .with_header("x-accel-buffering", "no") // nginx would hold the events back
        .with_body(Body::from_reader(Clock(0)))
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let router = Router::new().get("/clock", clock);
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
