//! HTTP/2 over TLS, with curl as the client that agrees on it.

use std::process::Command;

use maniple_server::{
    Request, Router, Server,
    tls::{ServerConfig, self_signed},
};

#[test]
fn it_is_agreed_on_in_the_handshake() {
    let runtime = maniple::Runtime::builder().workers(2).build().unwrap();
    let config = ServerConfig::builder()
        .certificate(self_signed(["localhost"]).unwrap())
        .alpn(["h2", "http/1.1"])
        .build()
        .unwrap();
    let router = Router::new()
        .get("/", |request: &mut Request| {
            format!("{:?} {}", request.version(), request.scheme())
        })
        .get("/long", |_: &mut Request| vec![b'x'; 3_000_000]);
    let server = Server::builder(router)
        .bind_tls("127.0.0.1:0", config)
        .unwrap();
    let (port, handle) = (server.local_addr().port(), server.handle());
    let serving = runtime.spawn(move || server.serve());
    let curl = |version: &str, path: &str| {
        let url = format!("https://localhost:{port}{path}");
        let arguments = ["-sk", "--max-time", "30", version, &url];
        let done = Command::new("curl").args(arguments).output();
        match done {
            Ok(done) => String::from_utf8(done.stdout).unwrap(),
            Err(error) if std::env::var_os("MANIPLE_REQUIRE_PROGRAMS").is_none() => {
                println!("skipped: {error}");
                String::new()
            }
            Err(error) => panic!("curl: {error}"),
        }
    };
    let answers = [
        curl("--http2", "/"),
        curl("--http1.1", "/"),
        curl("--http2", "/long"),
    ];
    if !answers[0].is_empty() {
        assert_eq!(answers[0], "HTTP/2.0 https");
        assert_eq!(answers[1], "HTTP/1.1 https");
        assert_eq!(answers[2].len(), 3_000_000);
    }
    handle.drain();
    serving.join().unwrap().unwrap();
}
