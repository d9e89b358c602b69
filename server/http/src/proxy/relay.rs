//! Bytes between a client and the server behind: bodies both ways, and tunnels.

use std::io::{self, Read, Write};

use maniple::{cancel::is_cancelled_error, io::copy, net::Shutdown};

use crate::{
    body::BodyError,
    client::{ClientResponse, upload::Sender},
    request::Request,
    server::upgrade::Upgraded,
    transport::Transport,
    writer::BodyWriter,
};

/// How far the request's body came.
#[derive(Debug)]
pub(super) enum Fed {
    Whole,
    /// Somebody wanted no more of it; it may be gone on with.
    Stopped,
    /// The client did not send all, or too much.
    Failed(BodyError),
}

/// Read at a time.
const PART: usize = 16 * 1024;

/// Sends the request's body on as it comes, and the fields behind it.
pub(super) fn feed(request: &mut Request, sender: &mut Sender) -> Fed {
    let mut buffer = vec![0; PART];
    loop {
        let part = match request.exchange.read_some(&mut buffer) {
            Ok(0) => break,
            Ok(count) => &buffer[..count],
            Err(BodyError::Io(error)) if is_cancelled_error(&error) => return Fed::Stopped,
            Err(error) => {
                sender.break_off(io::Error::other("the client broke off"));
                return Fed::Failed(error);
            }
        };
        if sender.send(part).is_err() {
            return Fed::Stopped;
        }
    }
    for (name, value) in &request.trailers().unwrap_or_default() {
        // One that was not announced is left out.
        let _ = sender.trailer(name, value);
    }
    match sender.finish() {
        Ok(()) => Fed::Whole,
        Err(_) => Fed::Stopped,
    }
}

/// Sends what is left of the request's body on, and the answer's body back, at once.
pub(super) fn both_ways(
    rest: &mut (dyn Read + Send),
    mut sender: Sender,
    mut answer: ClientResponse,
    out: &mut BodyWriter<'_>,
) -> io::Result<()> {
    maniple::group(|group| {
        let feeder = group.spawn(|| feed_rest(rest, &mut sender));
        let copied = pass_on(&mut answer, out);
        // Once the answer has ended, nobody reads the rest.
        feeder.cancel();
        let _ = feeder.join();
        copied
    })
}

fn feed_rest(rest: &mut (dyn Read + Send), sender: &mut Sender) -> io::Result<()> {
    let mut buffer = vec![0; PART];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return sender.finish(),
            Ok(count) => sender.send(&buffer[..count])?,
            Err(error) if is_cancelled_error(&error) => return Err(error),
            Err(error) => {
                sender.break_off(io::Error::new(error.kind(), error.to_string()));
                return Err(error);
            }
        }
    }
}

/// Copies an answer's body as it comes, and the fields behind it.
pub(super) fn pass_on(answer: &mut ClientResponse, out: &mut BodyWriter<'_>) -> io::Result<()> {
    copy(answer, out)?;
    for (name, value) in answer.trailers() {
        if let Some(name) = name {
            // One that was not announced is left out.
            let _ = out.trailer(name, value);
        }
    }
    Ok(())
}

/// Copies both ways until both have ended, or one has failed. `ahead` came from the server behind already.
pub(super) fn tunnel(client: Upgraded, server: &Transport, ahead: &[u8]) -> io::Result<()> {
    // Those of HTTP are over. Errors say that the server is gone already.
    let _ = server.set_read_timeout(None);
    let _ = server.set_write_timeout(None);
    let (mut reader, mut writer) = client.split();
    let mut there = || {
        copy(&mut reader, &mut Server(server))?;
        server.shutdown(Shutdown::Write)
    };
    let mut back = || {
        writer.write_all(ahead)?;
        copy(&mut Server(server), &mut writer)?;
        writer.shutdown()
    };
    maniple::try_join!(there(), back()).map(|_| ())
}

struct Server<'a>(&'a Transport);

impl Read for Server<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Server<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
