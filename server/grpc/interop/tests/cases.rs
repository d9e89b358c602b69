//! The cases between a server and a client of ours, over plain text.

use std::time::Duration;

use maniple_grpc::Channel;
use maniple_grpc_interop::{
    Tested,
    cases::{ALL, Server},
    testing::TestService,
};

#[test]
fn all_cases_of_the_list_are_well() {
    maniple::run(|| {
        let server = maniple_server::Server::builder(Tested.into_service().into_router());
        let server = server.bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let server = Server {
            channel: Channel::to(address.to_string()),
            sees_compression: true,
            compresses: true,
        };
        for (name, case) in ALL {
            println!("{name}");
            let ended = maniple::timeout(Duration::from_secs(30), || case(&server));
            ended.unwrap().unwrap();
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}
