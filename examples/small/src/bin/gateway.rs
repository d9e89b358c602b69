//! A gateway: one server in front of another, with an id and a line in the log for each request.
//!
//! Try it: `cargo run --bin hello 127.0.0.1:8081`, `cargo run --bin gateway` in another terminal, and
//! `curl -i http://127.0.0.1:8080/api/hello/Ann`. UPSTREAM names another server.

use std::{env, io, time::Duration};

use maniple_server::{
    Proxy, Request, Router, Server,
    middleware::{AccessLog, RequestId},
};

fn main() -> io::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::new().default_filter_or("info")).init();
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let upstream = env::var("UPSTREAM").unwrap_or("http://127.0.0.1:8081".into());
    let api = Proxy::to(&upstream)
        .strip_prefix("/api")
        .timeout(Duration::from_secs(10));
    let router = Router::new()
        .with(RequestId::new())
        .with(AccessLog::common())
        .any("/api/{*rest}", api) // bodies stream both ways, WebSockets pass through
        .get("/", |_: &mut Request| "ask below /api\n");
    maniple::run(|| {
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
