//! What the test suite of Autobahn talks to: an echo of messages up to 16 MiB.
//!
//! The suite is a program for Python 2.7, `pip install autobahntestsuite`. Start this with
//! `cargo run --release -p maniple-server --example autobahn -- 127.0.0.1:9001`, and then
//! `wstest -m fuzzingclient -s server/http/examples/autobahn.json`; the report comes into `target/autobahn`.

use std::{env, io};

use maniple_server::{Request, Router, Server, websocket::Settings};

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    maniple::run(|| {
        let settings = Settings::new().max_message(16 << 20).max_frame(16 << 20);
        let router = Router::new().get("/", move |request: &mut Request| {
            settings.upgrade(request, |socket| {
                while let Some(message) = socket.receive()? {
                    socket.send(message)?;
                }
                Ok(())
            })
        });
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
