//! One service over both transports: RPC for processes of one's own, gRPC for all others.
//!
//! Try it: `cargo run -p maniple-example-grpc --bin notes_server -- 127.0.0.1:7000 127.0.0.1:7001`

use std::io;

use maniple::signal::{SIGINT, SIGTERM, shutdown_signals};
use maniple_example_grpc::notes::{Notes, NotesEither};

fn main() -> io::Result<()> {
    env_logger::init();
    let mut addresses = std::env::args().skip(1);
    let mut address = |default: &str| addresses.next().unwrap_or_else(|| default.to_owned());
    let (rpc, grpc) = (address("127.0.0.1:7000"), address("127.0.0.1:7001"));
    maniple::run(|| {
        let told = shutdown_signals(&[SIGTERM, SIGINT])?;
        let notes = Notes::default();
        let over_rpc = maniple_rpc::Server::builder().service(notes.clone().into_rpc());
        let over_rpc = over_rpc.bind(&rpc)?;
        let over_grpc = maniple_server::Server::builder(notes.into_grpc().into_router());
        let over_grpc = over_grpc.bind(&grpc)?;
        println!(
            "RPC at {}, gRPC at {}",
            over_rpc.address(),
            over_grpc.address()
        );
        let handles = (over_rpc.handle(), over_grpc.handle());
        maniple::spawn(move || {
            let _ = told.recv();
            handles.0.drain();
            handles.1.drain();
        });
        let serving = maniple::spawn(move || over_rpc.serve());
        over_grpc.serve()?;
        serving.join()?
    })
}
