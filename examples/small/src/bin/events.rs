//! Server-sent events: one every second, until the client goes or the server ends.
//!
//! Try it: `cargo run --bin events`, then `curl -N http://127.0.0.1:8080/clock`.

use std::{env, io, time::Duration};

use maniple_server::{Request, Response, Router, Server, sse};

fn clock(request: &mut Request) -> Response {
    // A client that comes back says what it got last.
    let last = sse::last_event_id(request).and_then(|id| id.parse().ok());
    let mut count: u64 = last.unwrap_or(0);
    sse::stream(request, move |events| {
        while events.wait(Duration::from_secs(1)) {
            count += 1;
            let event = sse::Event::data(format!("{count} seconds"));
            events.send(&event.with_id(count))?;
        }
        Ok(())
    })
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
