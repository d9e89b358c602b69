//! A proxy that records: what goes over connections between programs that know nothing of it.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use maniple::{
    log_limit::LogLimit,
    net::{Shutdown, TcpListener, TcpStream},
    task,
};

use crate::{
    frame::Inlet,
    record::{Recorder, Tape},
    recording::Way,
};

/// Accepts connections and has each go on to `to`, a `host:port`; all frames are recorded on their way. Bytes are passed on
/// as they are: names, limits, heartbeats and checksums are those of the ends.
///
/// A connection in which something else than frames goes is passed on all the same, and recorded up to there.
///
/// # Errors
/// If the wait for connections was cut short, in a cancelled scope or past its deadline. The connections that there are go
/// on, as long as their ends do.
///
/// # Examples
/// ```no_run
/// use maniple::net::TcpListener;
/// use maniple_rpc::{proxy, record::Recorder};
///
/// maniple::run(|| {
///     let recorder = Recorder::create("traffic.mrec")?;
///     proxy::serve(&TcpListener::bind("127.0.0.1:7000")?, "127.0.0.1:7001", &recorder)
/// })
/// # ; std::io::Result::Ok(())
/// ```
pub fn serve(listener: &TcpListener, to: &str, recorder: &Recorder) -> io::Result<()> {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) => {
                maniple::cancel::check()?;
                tell(&error);
                // It may be descriptors that are used up: others give some back.
                maniple::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let (to, recorder) = (to.to_owned(), recorder.clone());
        let passing = task::Builder::new().name("RPC proxy");
        let begun = passing.spawn(move || {
            if let Err(error) = pass(&client, &to, &recorder) {
                tell(&error);
            }
        });
        if let Err(error) = begun {
            tell(&error);
        }
    }
}

#[cold]
fn tell(error: &io::Error) {
    static LIMIT: LogLimit = LogLimit::new(5);
    maniple::log_within!(LIMIT, warn, "RPC: a proxy's connection: {error}");
}

/// How long the server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

fn pass(client: &TcpStream, to: &str, recorder: &Recorder) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("to {to}: {error}"));
    let connected = maniple::timeout(PATIENCE, || TcpStream::connect(to));
    let server = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
    let server = server.and_then(|server| server).map_err(named)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let tape = recorder.connection(
        client.peer_addr()?.to_string(),
        server.peer_addr()?.to_string(),
    );
    maniple::group(|g| {
        g.spawn(|| pump(client, &server, &tape, Way::ToServer));
        pump(&server, client, &tape, Way::ToClient);
        Ok(())
    })
}

/// Passes bytes on until they end, and then their end; if that cannot be, ends both directions.
fn pump(mut from: &TcpStream, mut to: &TcpStream, tape: &Tape, way: Way) {
    let mut inlet = Some(Inlet::new(LARGEST));
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => {
                // Who reads there may have gone.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        // Before it is passed on, so that no answer is recorded before what it is one to.
        inlet = inlet.and_then(|inlet| note(inlet, &buffer[..count], tape, way));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The longest frame that is looked for.
const LARGEST: u32 = 256 << 20;
/// Bytes that are passed on at once.
const CHUNK: usize = 64 * 1024;

/// Records the frames in these bytes; no inlet any more, if there is something else.
fn note(mut inlet: Inlet, mut bytes: &[u8], tape: &Tape, way: Way) -> Option<Inlet> {
    while !bytes.is_empty() {
        let room = inlet.room();
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        inlet.fill(count);
        bytes = &bytes[count..];
        loop {
            match inlet.next() {
                Ok(Some(frame)) => tape.frame(way, &frame),
                Ok(None) => break,
                Err(fault) => {
                    static LIMIT: LogLimit = LogLimit::new(5);
                    let text = fault.text;
                    maniple::log_within!(LIMIT, warn, "RPC: not recorded any more: {text}");
                    tape.cannot_read();
                    return None;
                }
            }
        }
    }
    Some(inlet)
}
