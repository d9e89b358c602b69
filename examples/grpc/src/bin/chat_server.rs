//! The service on a port: `cargo run -p maniple-example-grpc --bin chat_server -- 127.0.0.1:50051`.

use maniple_example_grpc::{Service, chat::Chat};
use maniple_server::Server;

fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    maniple::run(|| {
        let service = Service.add_to(maniple_grpc::Service::new("chat.v1.Chat").compress(true));
        let server = Server::builder(service.into_router())
            .handle_signals(true)
            .bind(address)?;
        println!("{}", server.local_addr());
        server.serve().map(drop)
    })
}
