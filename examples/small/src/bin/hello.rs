//! The smallest HTTP server: one route, one handler, a graceful end on Ctrl-C, errors in the log.
//!
//! Try it: `cargo run --bin hello`, then `curl http://127.0.0.1:8080/hello/you`.

use std::{env, io};

use maniple_server::{Request, Router, Server};

fn main() -> io::Result<()> {
    env_logger::init(); // without a logger, refused connections and panics are told to nobody
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let router = Router::new().get("/hello/{name}", hello);
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}

fn hello(request: &mut Request) -> String {
    format!("Hello, {}!\n", request.param("name").unwrap_or("world"))
}
