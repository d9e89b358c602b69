//! A library as a service has them: it asks another service by `ureq`, and knows nothing of hooks. `.ci/linking` builds
//! the program that has them, with this in between.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// How long the other service takes.
pub const SLOW: Duration = Duration::from_millis(200);

/// What the other service says.
///
/// # Errors
/// Those of the client.
pub fn ask(url: &str) -> Result<String, ureq::Error> {
    ureq::get(url).call()?.body_mut().read_to_string()
}

/// The other service: it answers so many requests, one after the other.
///
/// # Errors
/// If its sockets fail.
pub fn serve(listener: &TcpListener, requests: usize) -> io::Result<()> {
    for stream in listener.incoming().take(requests) {
        let stream = stream?;
        // A thread of std's, to show that these go on as ever.
        thread::spawn(|| answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    #[allow(clippy::disallowed_methods, reason = "a thread that sleeps")]
    thread::sleep(SLOW);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
}

/// What a library must not do, and cannot.
#[cfg(feature = "hooks-by-itself")]
pub fn hook() {
    maniple_hook::install!();
}
