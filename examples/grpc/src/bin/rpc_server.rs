//! The service over RPC, as the only process on its port. Every five seconds it says what its connections are like.
//!
//! Try it: `cargo run -p maniple-example-grpc --bin rpc_server -- 127.0.0.1:7000`, then `rpc_client` likewise.

use std::{io, time::Duration};

use maniple::signal::{SIGINT, SIGTERM, shutdown_signals};
use maniple_example_grpc::{Service, chat::ChatRpc};
use maniple_rpc::Server;

fn main() -> io::Result<()> {
    env_logger::init();
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    maniple::run(|| {
        let told = shutdown_signals(&[SIGTERM, SIGINT])?;
        let server = Server::builder()
            .service(Service.into_service())
            .heartbeat(Duration::from_millis(500))
            .drain_timeout(Duration::from_secs(10));
        // A second one hears it here: the port is the lock.
        let server = server
            .bind(&address)
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        println!("listening on {}", server.local_addr());
        let handle = server.handle();
        maniple::spawn(move || {
            loop {
                match told.recv_timeout(Duration::from_secs(5)) {
                    Ok(_) => return handle.drain(),
                    Err(_) => handle
                        .connections()
                        .iter()
                        .for_each(|each| println!("{each}")),
                }
            }
        });
        server.serve()
    })
}
