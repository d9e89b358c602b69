//! A directory's files over HTTP, on one worker: `cargo run --release -p maniple-server --example files -- DIRECTORY [ADDRESS]`.

use std::env::args;

use maniple_server::{Files, Router, Server};

fn main() -> std::io::Result<()> {
    let directory = args().nth(1).unwrap_or_else(|| ".".to_owned());
    let address = args().nth(2).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let router = Router::new().files("/", Files::new(&directory).precompressed(true));
        let server = Server::builder(router).bind(&address)?;
        println!("{directory} on http://{}/", server.local_addr());
        server.serve().map(drop)
    })
}
