//! Routers, middleware and handlers, called without a port; over a connection where that matters.

#[macro_use]
extern crate maniple_driven;

mod around;
#[path = "../driven/mod.rs"]
mod driven;
mod extracting;
mod problems;
mod routing;
mod uploading;

use std::io::{Read, Write};

use maniple_server::{Request, Response, Router, Server, transport::memory};

fn ask(router: &Router, method: &str, path: &str) -> Response {
    router.answer(&mut Request::for_test(method, path))
}

/// The body of an answer.
fn text(router: &Router, method: &str, path: &str) -> String {
    ask(router, method, path).into_text().unwrap()
}

/// Its status.
fn status(router: &Router, method: &str, path: &str) -> u16 {
    ask(router, method, path).status().as_u16()
}

/// Sends requests on one connection to a server of that router, and returns all that comes back.
fn served(router: Router, requests: &str) -> String {
    let requests = requests.to_owned();
    driven::run(move || {
        let (listener, connector) = memory::listener();
        let server = Server::builder(router).listener(listener).unwrap();
        let handle = server.handle();
        let serving = maniple::spawn(move || server.serve());
        let mut stream = connector.connect().unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        handle.drain();
        serving.join().unwrap().unwrap();
        answers
    })
}
