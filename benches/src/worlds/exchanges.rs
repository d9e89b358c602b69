//! An ordinary test: a service and its client, over the kernel or in a world, the same lines in both.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use maniple::{
    net::{TcpListener, TcpStream},
    sim,
};
use maniple_server::{Client, Request, Router, Server};

/// What is tested.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// Two ends of a connection send each other bytes in turn.
    Tcp,
    /// A server is asked by its client.
    Http,
    /// The same once, which is mostly what it takes to begin and to end.
    Once,
}

pub(super) const TESTS: [Test; 3] = [Test::Tcp, Test::Http, Test::Once];

impl Test {
    pub(super) fn name(self, exchanges: u32) -> String {
        match self {
            Self::Tcp => format!("TCP, {exchanges} exchanges"),
            Self::Http => format!("HTTP, {exchanges} exchanges"),
            Self::Once => "HTTP, one exchange".to_owned(),
        }
    }

    /// On a runtime of one worker, over loopback.
    pub(super) fn over_the_kernel(self, exchanges: u32) -> Result<()> {
        let runtime = maniple::Runtime::builder().workers(1).build()?;
        runtime.run(move || self.run(exchanges))
    }

    pub(super) fn in_a_world(self, exchanges: u32) -> Result<()> {
        let scenario =
            move |_: &sim::World| self.run(exchanges).expect("it goes as over the kernel");
        match sim::run(7, scenario) {
            Ok(_) => Ok(()),
            Err(failure) => anyhow::bail!("{failure}"),
        }
    }

    fn run(self, exchanges: u32) -> Result<()> {
        match self {
            Self::Tcp => tcp(exchanges),
            Self::Http => http(exchanges),
            Self::Once => http(1),
        }
    }
}

fn tcp(exchanges: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = maniple::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes)? {
                0 => return std::io::Result::Ok(()),
                count => stream.write_all(&bytes[..count])?,
            }
        }
    });
    let mut stream = TcpStream::connect(address)?;
    for number in 0..exchanges {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let mut answer = [0; 64];
        stream.write_all(&bytes)?;
        stream.read_exact(&mut answer)?;
        ensure!(answer == bytes, "another answer");
    }
    drop(stream);
    echo.join()??;
    Ok(())
}

fn http(exchanges: u32) -> Result<()> {
    let router = Router::new().get("/{number}", |request: &mut Request| {
        request.param("number").unwrap_or_default().to_owned()
    });
    let server = Server::builder(router).bind("127.0.0.1:0")?;
    let (address, handle) = (server.local_addr(), server.handle());
    let serving = maniple::spawn(move || server.serve());
    let client = Client::new();
    for number in 0..exchanges {
        let answer = client.get(&format!("http://{address}/{number}"))?.text()?;
        ensure!(answer == number.to_string(), "another answer: {answer}");
    }
    drop(client);
    handle.drain();
    serving.join()?.context("a drain that ends")?;
    Ok(())
}
