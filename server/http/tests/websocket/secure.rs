//! WebSockets over TLS, with the client of this crate at the other end.

use crate::driven::Runtime;
use maniple_server::{
    Client, Request, Router, Server,
    tls::{ClientConfig, ServerConfig, self_signed},
    websocket::{Error, Settings, upgrade},
};

use super::raw::echo;

#[test]
fn a_client_speaks_wss_with_whom_it_believes() {
    let certificate = self_signed(["localhost"]).unwrap();
    let believed = ClientConfig::builder().roots_pem(certificate.chain_pem());
    let config = ServerConfig::builder().certificate(certificate).build();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let router = Router::new().get("/", |request: &mut Request| upgrade(request, echo));
    let server = Server::builder(router).bind_tls("127.0.0.1:0", config.unwrap());
    let server = server.unwrap();
    let (port, handle) = (server.local_addr().port(), server.handle());
    let serving = runtime.spawn(move || server.serve());

    let client = Client::builder().tls(believed.build().unwrap()).build();
    let settings = Settings::new().client(&client);
    let url = format!("wss://localhost:{port}/");
    let mut socket = settings.connect(&url).unwrap();
    let long = "hello ".repeat(50_000);
    for text in ["hello", &long] {
        socket.send(text).unwrap();
        assert_eq!(socket.receive().unwrap(), Some(text.into()));
    }
    // One coroutine sends while another receives.
    let sender = socket.sender();
    let sending = runtime.spawn(move || (0..1000).try_for_each(|n| sender.send(n.to_string())));
    for n in 0..1000 {
        assert_eq!(socket.receive().unwrap(), Some(n.to_string().into()));
    }
    sending.join().unwrap().unwrap();
    socket.close(1000, "").unwrap();

    // A name that the certificate has not, a root that nobody believes, and no TLS at all.
    let other_name = settings.connect(&format!("wss://127.0.0.1:{port}/"));
    assert!(tells(&other_name.unwrap_err(), "certificate"));
    let unknown = Settings::new().connect(&url);
    assert!(tells(&unknown.unwrap_err(), "certificate"));
    let plain = settings.connect(&format!("ws://localhost:{port}/"));
    assert!(tells(&plain.unwrap_err(), "400"));
    handle.drain();
    serving.join().unwrap().unwrap();
}

fn tells(error: &Error, what: &str) -> bool {
    let text = error.to_string();
    let has = text.to_lowercase().contains(what);
    assert!(has, "{text}");
    has
}
