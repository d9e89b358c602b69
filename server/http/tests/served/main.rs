//! The server and the client over real sockets.

#[macro_use]
extern crate maniple_driven;

mod adapting;
mod balancing;
mod calling;
mod compressing;
mod counting;
mod decoding;
mod disconnecting;
mod draining;
#[path = "../driven/mod.rs"]
mod driven;
mod early;
mod events;
mod exchanges;
mod files;
mod gateways;
mod handover;
mod leaving;
mod limiting;
mod listening;
mod measuring;
mod phases;
mod pooling;
mod programs;
mod protocol;
mod proxied;
mod proxying;
mod queueing;
mod redirecting;
mod refusing;
mod secure;
mod standby;
mod streaming;
mod through;
mod transports;
mod uploads;

use std::{
    io::{Read, Write},
    time::Duration,
};

use crate::driven::Runtime;
use maniple::{
    JoinHandle,
    net::{Shutdown, SocketAddr, TcpStream},
};
use maniple_server::{
    Body, BodyError, DrainReport, Request, Response, Router, Server, ServerHandle, StatusCode,
    server::Builder,
};

/// A running server; drained when dropped.
struct Served {
    handle: ServerHandle,
    serving: Option<JoinHandle<std::io::Result<DrainReport>>>,
    _runtime: Runtime,
}

impl Served {
    fn start() -> Self {
        Self::with(|builder| builder)
    }

    fn with(settings: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(routes(), settings)
    }

    fn of(routes: Router, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = settings(Server::builder(routes))
            .bind("127.0.0.1:0")
            .unwrap();
        let handle = server.handle();
        let serving = Some(runtime.spawn(move || server.serve()));
        Self {
            handle,
            serving,
            _runtime: runtime,
        }
    }

    fn address(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    /// Sends bytes, ends the sending side, and returns all that comes back.
    fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is no matter here.
        let _ = stream.read_to_end(&mut answer);
        driven::without_questions(bytes.as_ref(), String::from_utf8(answer).unwrap())
    }

    fn drain(mut self) -> DrainReport {
        self.handle.drain();
        self.serving.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

fn routes() -> Router {
    Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/user/{id}", |request: &mut Request| {
            request.param("id").unwrap_or("?").to_owned()
        })
        .get("/panic", |_: &mut Request| -> &'static str {
            panic!("intended")
        })
        .get("/stream", |_: &mut Request| {
            Response::text(Body::from_reader(std::io::repeat(b'x').take(100_000)))
        })
        .get("/slow", |_: &mut Request| {
            maniple::sleep(Duration::from_millis(100));
            "slow"
        })
        .get("/stuck", |_: &mut Request| {
            maniple::sleep(Duration::from_secs(600));
            "never"
        })
        .post(
            "/echo",
            |request: &mut Request| -> Result<Vec<u8>, BodyError> {
                Ok(request.read_body()?.to_vec())
            },
        )
        .post("/ignore", |_: &mut Request| StatusCode::ACCEPTED)
}

/// Takes in a request without a body, as a peer does that is to answer it: who closes over bytes unread resets.
fn take_head(stream: &mut TcpStream) {
    let (mut head, mut bytes) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => head.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
}

/// Connections to that address of 127.0.0.1 that this machine's clients have open, as the kernel has them in its registry: which
/// they have begun to make, or have made and not closed.
fn client_ends(address: SocketAddr) -> usize {
    crate::driven::needs_the_kernel("the kernel's registry of sockets");
    let registry = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!("0100007F:{:04X}", address.port());
    let is_open = |line: &&str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        // SYN_SENT, ESTABLISHED and CLOSE_WAIT.
        columns.get(2) == Some(&&*remote) && ["02", "01", "08"].contains(&columns[3])
    };
    registry.lines().filter(is_open).count()
}

fn statuses(answers: &str) -> Vec<u16> {
    answers
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| answers.get(at + 9..at + 12)?.parse().ok())
        .collect()
}
