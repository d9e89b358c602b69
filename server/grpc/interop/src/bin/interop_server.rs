//! The server of the interoperability tests: says its address, and serves until it is told to end.
//!
//! `interop_server [CERTIFICATE KEY]`: by TLS with these. Beside the tested service it tells of its health and of itself.

use std::io;

use maniple_grpc::{Health, Reflection};
use maniple_grpc_interop::{
    Tested,
    testing::{FILE_DESCRIPTOR_SET, TestService},
};
use maniple_server::{
    Server, server,
    tls::{Certificate, ServerConfig},
};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let files = arguments.next().zip(arguments.next());
    maniple::run(|| {
        let ready = server::Health::new();
        let health = Health::of(&ready);
        health.set("grpc.testing.TestService", true);
        let reflection = Reflection::new().files(FILE_DESCRIPTOR_SET);
        let reflection = reflection.map_err(io::Error::other)?;
        let router = Tested.into_service().into_router();
        let router = router.merge(health.into_service().into_router());
        let server = Server::builder(router.merge(reflection.into_router()))
            .health(&ready)
            .handle_signals(true);
        let server = match files {
            None => server.bind("127.0.0.1:0")?,
            Some((certificate, key)) => {
                let config = ServerConfig::builder()
                    .certificate(Certificate::files(certificate, key))
                    .alpn(["h2"])
                    .build()?;
                server.bind_tls("127.0.0.1:0", config)?
            }
        };
        println!("{}", server.local_addr());
        server.serve().map(drop)
    })
}
